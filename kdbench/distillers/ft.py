"""Factor transfer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision
from kdbench.distillers.parts.stage_pairs import asked, same_grid
from kdbench.distillers.phase import Phase
from kdbench.models.spec import ModelOutput, ModelSpec

#: of every activation, the last ones too
_SLOPE = 0.1


@full_precision
def ft_loss(
    student_factor: Tensor,
    teacher_factor: Tensor,
    *,
    p1: float = 2,
    p2: float = 1,
    form: str = "repdistiller",
    return_terms: bool = False,
) -> Any:
    """Distance of two factors of unit norm (Kim, Park and Kwak, NeurIPS 2018), without its weight.

    ``repdistiller``: ``mean |q_s - q_t|^p2`` with ``q(f) = mean_c f^p1`` flattened over places and L2-normalised, an attention map
    of the factor (RepDistiller@b84f547). ``authors``: ``mean |u_s - u_t|`` with the whole factor flattened over channels and places
    and L2-normalised (Factor-Transfer-pytorch@19cce26); ``p1`` and ``p2`` mean nothing there. The two are not the same function.

    Args:
        student_factor, teacher_factor: (B, C, H, W); the teacher's without gradient. Where the sizes differ the larger is
            average-pooled.
        p1: power of the factor.
        p2: power of the difference.
        form: ``repdistiller`` or ``authors``.
        return_terms: also return ``{"factor"}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    student, teacher = (_unit(factor, p1, form) for factor in same_grid(student_factor, teacher_factor))
    gap = student - teacher
    loss = gap.abs().mean() if form == "authors" or p2 == 1 else gap.pow(p2).mean()
    return (loss, {"factor": loss}) if return_terms else loss


def _unit(factor: Tensor, p1: float, form: str) -> Tensor:
    return F.normalize((factor if form == "authors" else factor.pow(p1).mean(1)).flatten(1), dim=1)


@register_distiller("FT")
class FT(Distiller):
    """Factor Transfer (Kim, Park and Kwak, NeurIPS 2018): a paraphraser sums the teacher's last map up as a factor, a translator
    brings the student's last map to the same.

    The paraphraser is trained on the teacher alone for ``INIT_EPOCHS`` epochs, to rebuild the map from the factor, and then frozen;
    all students of a teacher share it (:meth:`phases`). Defaults are RepDistiller's, from whose loss published columns come, with
    its rate for students among ResNets; others have the run's own there (``INIT_LR``). The preset ``authors`` is the authors' loss
    and weight, with a reconstruction by L1 and a translator without batch normalisation; other settings of their separate script
    were not compared. Token networks take part with their patches on the grid (ours; no release does it).
    """

    reference = (
        "Kim, Park, Kwak. Paraphrasing Complex Network: Network Compression via Factor Transfer. NeurIPS 2018, arXiv "
        "1802.04977"
    )
    verified = "RepDistiller@b84f547, Factor-Transfer-pytorch@19cce26"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    defaults = {
        "K": 0.5,
        "P1": 2,
        "P2": 1,
        "FORM": "repdistiller",
        "TRANSLATOR_BN": True,
        "RECONSTRUCTION": "mse",
        "INIT_EPOCHS": 30,
        "INIT_LR": 0.01,
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 200.0},
    }
    domains = {
        "K": "(0, inf)",
        "P1": "[1, inf)",
        "P2": "[1, inf)",
        "FORM": ("repdistiller", "authors"),
        "RECONSTRUCTION": ("mse", "l1"),
        "INIT_EPOCHS": "[0, inf)",
        "INIT_LR": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    effective = {"P1": {"FORM": ("repdistiller",)}, "P2": {"FORM": ("repdistiller",)}}
    presets = {
        "authors": {
            "FORM": "authors",
            "TRANSLATOR_BN": False,
            "RECONSTRUCTION": "l1",
            "LOSS": {"FEAT_WEIGHT": 500.0},
        }
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        reason = super().refuses(student, teacher, cfg, data)
        if not reason and teacher is not None and int(teacher.stages[-1].channels * cfg.K) < 1:
            return f"K = {cfg.K} leaves nothing of the teacher's {teacher.stages[-1].channels} channels"
        return reason

    def setup(self) -> None:
        own, channels = self.student_spec.stages[-1].channels, self.teacher_spec.stages[-1].channels
        factor = int(channels * self.cfg.K)
        with self.seeded("paraphraser"):
            self.encoder = _layers(nn.Conv2d, (channels, channels, factor, factor))
            self.decoder = _layers(nn.ConvTranspose2d, (factor, factor, channels, channels))
        with self.seeded("translator"):
            self.translator = _layers(nn.Conv2d, (own, own, factor, factor), norm=self.cfg.TRANSLATOR_BN)
        self.encoder.requires_grad_(False)
        self.decoder.requires_grad_(False)

    def phases(self) -> Sequence[Phase]:
        return [
            Phase(
                "paraphraser",
                self.cfg.INIT_EPOCHS,
                self._reconstruction,
                (self.encoder, self.decoder),
                self.teacher_needs,
                rate=self.cfg.INIT_LR,
                keys={"version": 1, "k": self.cfg.K, "reconstruction": self.cfg.RECONSTRUCTION},
            )
        ]

    def _reconstruction(self, student: None, teacher: ModelOutput, batch: Batch) -> Losses:
        whole = asked(teacher.stages)[-1]
        rebuilt = self.decoder(self.encoder(whole))
        distance = F.mse_loss if self.cfg.RECONSTRUCTION == "mse" else F.l1_loss
        return {"reconstruction": distance(rebuilt.float(), whole.float())}

    def vanishing(self, batch: int) -> Iterator[str]:
        grids = self.student_spec.stages[-1].grid, self.teacher_spec.stages[-1].grid
        if self.cfg.FORM == "repdistiller" and min(min(grid) for grid in grids) == 1:
            yield "factors are compared at one place, where their attention is constant"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        with torch.no_grad():
            target = self.encoder(asked(teacher.stages)[-1])
        factor = self.translator(asked(student.stages)[-1])
        ft = ft_loss(factor, target, p1=cfg.P1, p2=cfg.P2, form=cfg.FORM)
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "factor": cfg.LOSS.FEAT_WEIGHT * ft,
        }


def _layers(conv: type[nn.Conv2d | nn.ConvTranspose2d], widths: Sequence[int], *, norm: bool = False) -> nn.Sequential:
    """3x3 convolutions that keep a map's size, each with a leaky ReLU behind it."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [conv(before, after, 3, padding=1), *([nn.BatchNorm2d(after)] if norm else []), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers)
