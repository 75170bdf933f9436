"""Self-supervision knowledge distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.distillers.phase import Phase
from kdbench.models.spec import ModelOutput

_TURNED = ("rot90", "rot180", "rot270")
_EPS = 1e-8  # least norm of a vector in a cosine


@full_precision
def sskd_loss(
    student_logits: Tensor,
    student_feat: Tensor,
    teacher_logits: Tensor,
    teacher_feat: Tensor,
    target: Tensor,
    *,
    kd_temperature: float = 4.0,
    tf_temperature: float = 4.0,
    ss_temperature: float = 0.5,
    tf_ratio: float = 1.0,
    ss_ratio: float = 0.75,
    kd_weight: float = 0.9,
    tf_weight: float = 2.7,
    ss_weight: float = 10.0,
    return_terms: bool = False,
) -> Any:
    """``kd_weight kd + tf_weight tf + ss_weight ss`` of four views of each image (Xu et al., ECCV 2020; SSKD@661b972).

    ``kd`` and ``tf`` are batch means of ``T^2 KL(teacher || student)`` of the logits, for the upright and for the turned views;
    ``ss`` that of softmaxes over the images n of ``cos(feat of a turned view, feat of n upright)``. Of the turned views only those
    are kept that the teacher gets right, and of the others the share ``ratio`` (rounded down) with the least rank of the right
    answer: the label in ``tf``, the own image in ``ss``. Of equal ranks the earlier row is kept; the release leaves that to its
    sort.

    Args:
        student_logits, teacher_logits: (4 B, K), the views of an image one after the other, upright first; the teacher's without
            gradient.
        student_feat, teacher_feat: (4 B, D) and (4 B, D'), outputs of the heads.
        target: (B,) int64 labels.
        kd_temperature, tf_temperature, ss_temperature: T of each term.
        tf_ratio, ss_ratio: share of the wrong turned views that is kept.
        kd_weight, tf_weight, ss_weight: of the terms.
        return_terms: also return ``kd``, ``tf`` and ``ss``, without their weights.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    own, told = (logits.unflatten(0, (-1, 4)) for logits in (student_logits, teacher_logits))
    kd = tempered_kl(own[:, 0], told[:, 0], kd_temperature).mean()
    own, told = own[:, 1:].flatten(0, 1), told[:, 1:].flatten(0, 1)
    kept = _kept(told, target.repeat_interleave(3), tf_ratio)
    tf = _mean_of(tempered_kl(own, told, tf_temperature), kept)
    own, told = _similarities(student_feat), _similarities(teacher_feat)
    kept = _kept(told, _own_image(told), ss_ratio)
    ss = _mean_of(tempered_kl(own, told, ss_temperature), kept)
    loss = kd_weight * kd + tf_weight * tf + ss_weight * ss
    return with_terms(loss, {"kd": kd, "tf": tf, "ss": ss}, return_terms)


def _similarities(feat: Tensor) -> Tensor:
    """Cosines (3 B, B) between the turned views and the upright ones; feat (4 B, D)."""
    views = (feat / torch.linalg.vector_norm(feat, dim=1, keepdim=True).clamp_min(_EPS)).unflatten(0, (-1, 4))
    return views[:, 1:].flatten(0, 1) @ views[:, 0].T


def _own_image(similarities: Tensor) -> Tensor:
    """(3 B,) the image of each turned view."""
    rows, images = similarities.shape
    return torch.arange(images, device=similarities.device).repeat_interleave(rows // images)


def _kept(scores: Tensor, answer: Tensor, ratio: float) -> Tensor:
    """(N,) whether a row is kept; scores (N, M), answer (N,) its right column."""
    right = scores.gather(1, answer[:, None])
    place = torch.arange(scores.shape[1], device=scores.device)
    rank = ((scores > right) | ((scores == right) & (place < answer[:, None]))).sum(1)
    wrong = (rank > 0).sum()
    count = len(rank) - wrong + (wrong.double() * ratio).floor().long()
    order = rank.argsort(stable=True)
    position = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return position < count


def _mean_of(values: Tensor, kept: Tensor) -> Tensor:
    """Mean of the kept values (N,); 0 where none is kept."""
    return (values * kept).sum() / kept.sum().clamp_min(1)


@register_distiller("SSKD")
class SSKD(Distiller):
    """Self-Supervision KD (Xu et al., ECCV 2020): logits for images as usual and turned by 90, 180 and 270 degrees, and which
    images the views seem to be of by a head on the penultimate features.

    The teacher's head is trained on the teacher alone for ``INIT_EPOCHS`` epochs, to find the upright view of an image among those
    of the batch, and shared by all students of the teacher (:meth:`phases`). Both networks run on four looks at each image, so
    that a step costs four times as much as KD's and sees four times as many: its accuracy is not like for like with other
    methods'. The four looks are four passes here, whose batch normalisation takes each look's own statistics; the release joins
    them in one batch. The cross entropy is of the upright ones. The similarities are of a process's own part of a batch.
    """

    reference = "Xu, Liu, Li, Loy. Knowledge Distillation Meets Self-Supervision. ECCV 2020, arXiv 2006.07114"
    verified = "SSKD@661b972"
    kind = "logits"
    teacher_needs = {"logits", "penultimate"}
    student_needs = {"logits", "penultimate"}
    looks = _TURNED
    batch_coupled = True
    min_batch = 2  # one image has no other to be told from
    defaults = {
        "KD_T": 4.0,
        "TF_T": 4.0,
        "SS_T": 0.5,
        "RATIO_TF": 1.0,
        "RATIO_SS": 0.75,
        "INIT_EPOCHS": 60,
        "INIT_LR": 0.05,
        "INIT_MILESTONES": [30, 45],
        "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9, "TF_WEIGHT": 2.7, "SS_WEIGHT": 10.0},
    }
    domains = {
        **dict.fromkeys(("KD_T", "TF_T", "SS_T", "INIT_LR"), "(0, inf)"),
        **dict.fromkeys(("RATIO_TF", "RATIO_SS"), "[0, 1]"),
        "INIT_EPOCHS": "[0, inf)",
        "INIT_MILESTONES": "[1, inf)",
        **dict.fromkeys(("LOSS.CE_WEIGHT", "LOSS.KD_WEIGHT", "LOSS.TF_WEIGHT", "LOSS.SS_WEIGHT"), "[0, inf)"),
    }

    def setup(self) -> None:
        with self.seeded("teacher_head"):
            self.teacher_head = _head(self.teacher_spec.penultimate).requires_grad_(False)
        with self.seeded("student_head"):
            self.student_head = _head(self.student_spec.penultimate)

    def phases(self) -> Sequence[Phase]:
        cfg = self.cfg
        return [
            Phase(
                "head",
                cfg.INIT_EPOCHS,
                self._contrast,
                (self.teacher_head,),
                self.teacher_needs,
                looks=self.looks,
                rate=cfg.INIT_LR,
                milestones=tuple(cfg.INIT_MILESTONES),
                keys={"version": 1},
            )
        ]

    def _contrast(self, student: None, teacher: ModelOutput, batch: Batch) -> Losses:
        similarities = full_precision(_similarities)(self.teacher_head(_views(teacher, "penultimate")))
        return {"contrast": F.cross_entropy(similarities, _own_image(similarities))}

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        with torch.no_grad():
            told = self.teacher_head(_views(teacher, "penultimate"))
        _, terms = sskd_loss(
            _views(student, "logits"),
            self.student_head(_views(student, "penultimate")),
            _views(teacher, "logits"),
            told,
            batch.labels,
            kd_temperature=cfg.KD_T,
            tf_temperature=cfg.TF_T,
            ss_temperature=cfg.SS_T,
            tf_ratio=cfg.RATIO_TF,
            ss_ratio=cfg.RATIO_SS,
            return_terms=True,
        )
        weighted = {name: cfg.LOSS[f"{name.upper()}_WEIGHT"] * term for name, term in terms.items()}
        return {"ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch), **weighted}


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def _views(output: ModelOutput, kind: str) -> Tensor:
    """(4 B, D): logits or penultimate features of each image's four looks one after the other, upright first."""
    assert output.looks is not None
    rows = [getattr(one, kind) for one in (output, *(output.looks[name] for name in _TURNED))]
    return torch.stack(rows, 1).flatten(0, 1)
