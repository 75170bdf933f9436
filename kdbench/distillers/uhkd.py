"""UHKD, re-derived: features compared in the frequency domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers._features import asked, pair_stages
from kdbench.distillers._math import full_precision, tempered_kl, with_terms
from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.errors import ConfigError
from kdbench.models.spec import ModelOutput

__functional__ = ("frequency_representation",)
MODES = ("amplitude", "log_amplitude", "complex")


@full_precision
def frequency_representation(
    feature: Tensor, *, keep: int = 7, mode: str = "amplitude", normalize: bool = True
) -> Tensor:
    """The low-frequency block of a map's Fourier transform.

    ``rfft2`` with norm ``"forward"``: the coefficient at frequency 0 is the spatial mean, whatever the resolution.
    Kept are the rows of frequency -f ... f (the negative ones last) and the columns 0 ... f, f = (keep - 1) / 2.

    Args:
        feature: (B, C, H, W).
        keep: odd side of the block, at most min(H, W).
        mode: ``amplitude`` (``sqrt(re^2 + im^2 + 1e-12)``), ``log_amplitude`` (``log(1 + amplitude)``) or ``complex``
            (real, then imaginary parts on the channels).
        normalize: standardise each sample over channels and frequencies.

    Returns:
        (B, C, keep, (keep + 1) / 2), twice the channels for ``complex``.

    Raises:
        ValueError: ``keep`` is even or too large, or the mode is unknown.
    """
    if keep % 2 == 0 or not 1 <= keep <= min(feature.shape[2:]):
        raise ValueError(f"keep must be odd and at most {min(feature.shape[2:])}, got {keep}")
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
    half = (keep - 1) // 2
    spectrum = torch.fft.rfft2(feature, norm="forward")[..., : half + 1]
    spectrum = torch.cat((spectrum[..., : half + 1, :], spectrum[..., spectrum.shape[-2] - half :, :]), dim=-2)
    if mode == "complex":
        result = torch.cat((spectrum.real, spectrum.imag), dim=1)
    else:
        result = (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
        result = result.log1p() if mode == "log_amplitude" else result
    return F.layer_norm(result, result.shape[1:]) if normalize else result


@full_precision
def uhkd_feature_loss(
    student_reps: Sequence[Tensor], teacher_reps: Sequence[Tensor], *, return_terms: bool = False
) -> Any:
    """Mean over levels of the mean squared error of two frequency representations.

    Args:
        student_reps, teacher_reps: (B, C, f, g) each, see :func:`frequency_representation`; the teacher's without
        gradient. return_terms: also return ``level_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms = {f"level_{i}": F.mse_loss(s, t) for i, (s, t) in enumerate(zip(student_reps, teacher_reps, strict=True))}
    return with_terms(torch.stack(tuple(terms.values())).mean(), terms, return_terms)


@register_distiller("UHKD")
class UHKD(Distiller):
    """UHKD (re-derived): what the abstracts of Yu et al., arXiv 2510.24116, describe, filled in by this project.

    No formulas, sizes, weights or code are published, so results under this name are no reproduction of the paper.
    Known: teacher features become compact frequency representations (FTM), a learned module aligns student features
    with them at several levels (FAM), and the objective is their mean squared error, the KL divergence of logits and
    the cross entropy. Ours: the transform and its block, standardisation, the FAM (1x1 convolution, BN, GELU, 1x1
    convolution, then the same transform), equal weights.
    """

    reference = (
        "Yu, Pan, Zhang, Guan, Jiang. UHKD, heterogeneous KD via frequency-domain representations. arXiv 2510.24116"
    )
    verified = "re-derived (no code or formulas published)"
    teacher_needs = {"logits", "stages"}
    student_needs = {"logits", "stages"}
    defaults = {
        "KEEP": 7,
        "MODE": "amplitude",
        "NORMALIZE": True,
        "TEMPERATURE": 1.0,
        "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0},
    }
    presets = {"cifar": {"TEMPERATURE": 4.0}}  # 32 x 32 networks; ours

    def setup(self) -> None:
        if self.cfg.MODE not in MODES:
            raise ConfigError(f"{self.name}.MODE must be one of {MODES}, got {self.cfg.MODE!r}")
        self.keeps: list[int] = []
        self.aligners = nn.ModuleList()
        for i, (s, t) in enumerate(pair_stages(self.student_spec.stages, self.teacher_spec.stages)):
            side = min(self.cfg.KEEP, *s.grid, *t.grid)
            self.keeps.append(side if side % 2 else side - 1)
            with self.seeded(f"aligner_{i}"):
                self.aligners.append(_Aligner(s.channels, t.channels))

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        student_reps, teacher_reps = [], []
        pairs = pair_stages(asked(student.stages), asked(teacher.stages))
        for aligner, keep, (s, t) in zip(self.aligners, self.keeps, pairs):
            options = {"keep": keep, "mode": cfg.MODE, "normalize": cfg.NORMALIZE}
            student_reps.append(frequency_representation(aligner(s), **options))
            teacher_reps.append(frequency_representation(t, **options))
        kd = _kd(student.logits, teacher.logits, cfg.TEMPERATURE)
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": cfg.LOSS.KD_WEIGHT * kd,
            "feature": cfg.LOSS.FEAT_WEIGHT * uhkd_feature_loss(student_reps, teacher_reps),
        }


@full_precision
def _kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    return tempered_kl(student_logits, teacher_logits, temperature).mean()


class _Aligner(nn.Sequential):
    """1x1 convolutions in space; the transform follows."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.GELU(),
            nn.Conv2d(out_channels, out_channels, 1),
        )
