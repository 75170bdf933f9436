"""DiffKD: the student's features are denoised by a diffusion model of the teacher's before they are compared."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.networks.diffusion import Refinement
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.distillers.parts.stage_pairs import asked, same_grid
from kdbench.models.spec import ModelOutput, ModelSpec

_FEWEST = 8  # channels, of which the noise adapter takes an eighth


@full_precision
def diffkd_loss(refined: Tensor, target: Tensor, *, temperature: float = 1.0, return_terms: bool = False) -> Any:
    """Of maps ``mean (refined - target)^2``, of logits, (B, K) or (B, K, 1, 1), ``T^2 * mean_b KL`` (Huang et al., NeurIPS 2023;
    image_classification_sota@6f7a70a).

    Args:
        refined: (B, C, H, W), or logits; denoised, of the student.
        target: the same shape, of the teacher, no gradient.
        temperature: T > 0, for logits.
        return_terms: also return the terms, ``{"kd": ...}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    if refined.shape[2:].numel() == 1:
        loss = tempered_kl(refined.flatten(1), target.flatten(1), temperature).mean()
    else:
        loss = F.mse_loss(refined, target)
    return with_terms(loss, {"kd": loss}, return_terms)


@register_distiller("DIFFKD")
class DiffKD(Distiller):
    """Knowledge diffusion (Huang et al., NeurIPS 2023): what a student gives is taken for a noisy form of what the teacher gives. A
    small diffusion model, trained on the teacher's outputs along with the student, denoises it in five steps, through which the
    gradient of the comparison runs; last map and logits each have one.

    ``AE_CHANNELS``: a teacher's map that is wider is compressed to so many channels by a trained autoencoder; one that is not wider
    stays as it is (ours; the release compresses any). Maps of two sizes are average-pooled to the smaller and tokens take part on
    their grid (both ours). A last map of 1 x 1 is compared by its elements, too. Draws belong to the sample. Batch norms of the
    diffusion model see batches from the noise adapter and from training, as in the release.
    """

    reference = (
        "Huang, Zhang, Zheng, You, Wang, Qian, Xu. Knowledge Diffusion for Distillation. NeurIPS 2023, arXiv 2305.15712"
    )
    verified = "image_classification_sota@6f7a70a"
    teacher_needs = {"logits", "stages"}
    student_needs = {"logits", "stages"}
    min_batch = 2
    batch_coupled = True
    defaults = {
        "AE_CHANNELS": 1024,
        "TEMPERATURE": 1.0,
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0, "LOGIT_WEIGHT": 1.0},
    }
    domains = {
        "AE_CHANNELS": "[0, 65536]",
        "TEMPERATURE": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
        "LOSS.LOGIT_WEIGHT": "[0, inf)",
    }
    effective = {
        "AE_CHANNELS": {"LOSS.FEAT_WEIGHT": "(0, inf)"},
        "TEMPERATURE": {"LOSS.LOGIT_WEIGHT": "(0, inf)"},
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        reason = super().refuses(student, teacher, cfg, data)
        if reason is None and teacher is not None:
            width = _width(teacher, cfg) or teacher.stages[-1].channels
            if width < _FEWEST:
                return f"the teacher's last map has {width} channels, and the noise adapter takes an eighth of them"
        return reason

    def setup(self) -> None:
        teacher, classes = self.teacher_spec, self.student_spec.num_classes
        with self.seeded("feature"):
            width = self.student_spec.stages[-1].channels, teacher.stages[-1].channels
            self.feature = Refinement(*width, kernel=3, width=_width(teacher, self.cfg))
        with self.seeded("logits"):
            self.logits = Refinement(classes, classes, kernel=1)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        weights = self.cfg.LOSS
        terms = {"ce": weights.CE_WEIGHT * self.cross_entropy(student.logits, batch)}
        maps = same_grid(asked(student.stages)[-1], asked(teacher.stages)[-1])
        logits = (student.logits[:, :, None, None], teacher.logits[:, :, None, None])
        for name, tap, weight, (mine, target) in (
            ("feature", self.feature, weights.FEAT_WEIGHT, maps),
            ("logits", self.logits, weights.LOGIT_WEIGHT, logits),
        ):
            draws = self._draws(name, tap, mine, batch)
            refined, wanted, own = tap(mine, target, *draws)
            found = {"kd": self._compared(name, refined, wanted), **own}
            terms |= {f"{name}_{term}": weight * value for term, value in found.items()}
        return terms

    def _compared(self, name: str, refined: Tensor, target: Tensor) -> Tensor:
        if name == "feature" and refined.shape[2:].numel() == 1:
            return F.mse_loss(refined.float(), target.float())
        loss: Tensor = diffkd_loss(refined, target, temperature=self.cfg.TEMPERATURE)
        return loss

    def _draws(self, name: str, tap: Any, mine: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        shape = (len(mine), tap.proj[0].out_channels, *mine.shape[2:])
        count = shape[1] * shape[2] * shape[3]
        start, noise = (
            batch.generator(f"diffkd/{name}/{which}").normal(count).to(mine.device, mine.dtype).view(shape)
            for which in ("start", "noise")
        )
        times = batch.generator(f"diffkd/{name}/times").integers(1000, 1).to(mine.device).flatten()
        return start, noise, times


def _width(teacher: ModelSpec, cfg: CfgNode) -> int:
    return int(cfg.AE_CHANNELS) if teacher.stages[-1].channels > cfg.AE_CHANNELS > 0 else 0
