"""Knowledge distillation by singular vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.singular_vectors import as_matrices, leading_vectors
from kdbench.distillers.parts.stage_pairs import asked, pair_stages
from kdbench.models.spec import ModelOutput, ModelSpec

_SPARE = 3  # singular vectors of the student besides the teacher's k, among which each of those finds its own


@full_precision
def kdsvd_loss(
    student_maps: Sequence[Tensor],
    teacher_maps: Sequence[Tensor],
    *,
    k: int = 1,
    layout: str = "mdistiller",
    return_terms: bool = False,
) -> Any:
    """Differences between the leading right singular vectors of successive stages (Lee, Kim and Song, ECCV 2018).

    A sample's map is a matrix. Each of the teacher's first ``k`` vectors is compared with that of the student's first ``k + 3``
    which it resembles most, up to its sign; both are scaled by the teacher's singular values, ``sigma / |sigma|``. With ``a`` of a
    stage and ``a'`` of the one before, ``R = exp(-(a_pj - a'_qj)^2 / 8)`` for all entries p and q, and the loss is the sum of
    ``(R_s - R_t)^2`` over entries, vectors and stages, averaged over the batch. Equal to mdistiller@a08d46f (layout
    ``mdistiller``) and RepDistiller@b84f547 (``authors``) where their backend's signs are those that are fixed here: a teacher's
    vector is positive where its magnitude is largest. Where singular values coincide the gradient is finite here and NaN there.

    Args:
        student_maps, teacher_maps: (B, C, H, W) each, two or more, shallow to deep. The teacher's without gradient.
        k: singular vectors of the teacher.
        layout: ``mdistiller``: matrices (C H) x W, equal widths; ``authors``: (H W) x C, equal channels.
        return_terms: also return ``stage_1`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms: dict[str, Tensor] = {}
    before: tuple[Tensor, Tensor] | None = None
    for i, (student, teacher) in enumerate(zip(student_maps, teacher_maps, strict=True)):
        with torch.no_grad():
            target, sigma = leading_vectors(as_matrices(teacher, layout), k)
            peak = target.gather(1, target.abs().argmax(1, keepdim=True))
            target = target * torch.where(peak < 0, -1.0, 1.0)
            sigma = F.normalize(sigma, dim=1).unsqueeze(1)
        own, _ = leading_vectors(as_matrices(student, layout), k + _SPARE)
        now = sigma * _aligned(own, target), sigma * target
        if before is not None:
            student_kernel, teacher_kernel = (_kernel(a, b) for a, b in zip(now, before))
            terms[f"stage_{i}"] = (student_kernel - teacher_kernel).square().sum() / len(student)
        before = now
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("KDSVD")
class KDSVD(Distiller):
    """Self-supervised distillation by singular value decomposition (Lee, Kim and Song, ECCV 2018): how the leading singular vectors
    of the maps change from stage to stage; nothing is learned.

    ``LAYOUT: mdistiller`` (its numbers come from it) takes (C H) x W matrices, so that the maps of a pair need the same width;
    ``authors``, the axes of the TensorFlow original and of RepDistiller, takes (H W) x C, so that they need as many channels. The
    decomposition itself makes a GPU tell the host whether it worked, so that steps are not captured. Entries that are not finite
    are an error here, and 0 in the releases. Token networks take part with their patches on the grid (ours; no release does it).
    """

    reference = (
        "Lee, Kim, Song. Self-supervised Knowledge Distillation Using Singular Value Decomposition. ECCV 2018, "
        "arXiv 1807.06819"
    )
    verified = "mdistiller@a08d46f, RepDistiller@b84f547 (layout authors)"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    capturable = False
    defaults = {"K": 1, "LAYOUT": "mdistiller", "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0}}
    domains = {
        "K": "[1, inf)",
        "LAYOUT": ("mdistiller", "authors"),
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    presets = {"authors": {"LAYOUT": "authors"}}

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        pairs = [] if teacher is None else pair_stages(student.stages, teacher.stages)
        if teacher is not None and len(pairs) < 2:
            return "it compares successive stages, and both networks need two"
        for s, t in pairs:
            if cfg.LAYOUT == "authors" and s.channels != t.channels:
                return f"layout authors needs as many channels, and there are {s.channels} and {t.channels}"
            if cfg.LAYOUT != "authors" and s.grid[1] != t.grid[1]:
                return f"layout mdistiller needs maps of one width, and there are {s.grid[1]} and {t.grid[1]}"
            rank = (
                min(t.channels, t.grid[0] * t.grid[1])
                if cfg.LAYOUT == "authors"
                else min(t.grid[1], t.channels * t.grid[0])
            )
            if rank < cfg.K:
                return f"KDSVD.K={cfg.K} asks for more singular vectors than the {rank} of a teacher's map"
        return super().refuses(student, teacher, cfg, data)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pairs = pair_stages(asked(student.stages), asked(teacher.stages))
        kdsvd = kdsvd_loss([s for s, _ in pairs], [t for _, t in pairs], k=self.cfg.K, layout=self.cfg.LAYOUT)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kdsvd": self.cfg.LOSS.FEAT_WEIGHT * kdsvd,
        }


def _aligned(own: Tensor, target: Tensor) -> Tensor:
    """Of (B, n, m) vectors the one most like each of the (B, n, k) targets, with the sign of their product: (B, n, k)."""
    product = own.detach().transpose(1, 2) @ target
    best = product.abs().argmax(1, keepdim=True)
    return own.gather(2, best.expand(-1, own.shape[1], -1)) * product.gather(1, best).sign()


def _kernel(now: Tensor, before: Tensor) -> Tensor:
    """(B, n, k) and (B, n', k) -> (B, n, n', k)."""
    return torch.exp(-(now.unsqueeze(2) - before.unsqueeze(1)).square() / 8.0)
