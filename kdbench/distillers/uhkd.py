"""UHKD, re-derived: features compared in the frequency domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.distillers.parts.stage_pairs import asked, pair_stages
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
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
    return _represent(_low_frequencies(feature, keep), mode, normalize)


def _low_frequencies(feature: Tensor, keep: int) -> Tensor:
    """(B, C, H, W) -> the complex (B, C, keep, (keep + 1) / 2) block around frequency 0."""
    if keep % 2 == 0 or not 1 <= keep <= min(feature.shape[2:]):
        raise ValueError(f"keep must be odd and at most {min(feature.shape[2:])}, got {keep}")
    half = (keep - 1) // 2
    spectrum = torch.fft.rfft2(feature, norm="forward")[..., : half + 1]
    return torch.cat((spectrum[..., : half + 1, :], spectrum[..., spectrum.shape[-2] - half :, :]), dim=-2)


def _represent(spectrum: Tensor, mode: str, normalize: bool) -> Tensor:
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
    the cross entropy. Ours: the transform and its block, standardisation, equal weights, and the FAM: ``spatial`` is a
    1x1 convolution, BN, GELU and a 1x1 convolution in front of the transform, ``spectral`` a complex linear map over
    channels behind it. ``PAIRS`` names other levels than the deepest with the deepest, as (student, teacher) from 1.
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
        "FAM": "spatial",  # or "spectral"
        "PAIRS": (),  # () = deepest with deepest, as many as both have
        "TEMPERATURE": 1.0,
        "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0},
    }
    domains = {
        "KEEP": "[1, inf)",
        "MODE": ("amplitude", "log_amplitude", "complex"),
        "FAM": ("spatial", "spectral"),
        "PAIRS": "[1, inf)",
        "TEMPERATURE": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}
    presets = {"cifar": {"TEMPERATURE": 4.0}}  # 32 x 32 networks; ours

    def setup(self) -> None:
        if self.cfg.KEEP % 2 == 0:
            raise ConfigError(f"{self.name}.KEEP: expects an odd number, got {self.cfg.KEEP}")
        self.pairs = self._pairs()
        self.keeps: list[int] = []
        self.aligners = nn.ModuleList()
        for i, (a, b) in enumerate(self.pairs):
            s, t = self.student_spec.stages[a], self.teacher_spec.stages[b]
            side = min(self.cfg.KEEP, *s.grid, *t.grid)
            self.keeps.append(side if side % 2 else side - 1)
            with self.seeded(f"aligner_{i}"):
                self.aligners.append(_ALIGNERS[self.cfg.FAM](s.channels, t.channels))

    def _pairs(self) -> list[tuple[int, int]]:
        """Stages that are compared, student's and teacher's, from 0."""
        counts = len(self.student_spec.stages), len(self.teacher_spec.stages)
        pairs = [tuple(pair) if isinstance(pair, (list, tuple)) else (pair,) for pair in self.cfg.PAIRS]
        for pair in pairs:
            if len(pair) != 2 or not all(isinstance(n, int) and 1 <= n <= most for n, most in zip(pair, counts)):
                raise ConfigError(
                    f"{self.name}.PAIRS: expects (student stage, teacher stage), 1 to {counts[0]} and 1 to {counts[1]}, got {pair}"
                )
        return [(a - 1, b - 1) for a, b in pairs] or pair_stages(*map(range, counts))

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        own, others = asked(student.stages), asked(teacher.stages)
        student_reps, teacher_reps = [], []
        for aligner, keep, (a, b) in zip(self.aligners, self.keeps, self.pairs):
            student_reps.append(_represent(aligner(own[a], keep), cfg.MODE, cfg.NORMALIZE))
            teacher_reps.append(frequency_representation(others[b], keep=keep, mode=cfg.MODE, normalize=cfg.NORMALIZE))
        kd = _kd(student.logits, teacher.logits, cfg.TEMPERATURE)
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": cfg.LOSS.KD_WEIGHT * kd,
            "feature": cfg.LOSS.FEAT_WEIGHT * uhkd_feature_loss(student_reps, teacher_reps),
        }


@full_precision
def _kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    return tempered_kl(student_logits, teacher_logits, temperature).mean()


class _SpatialAligner(nn.Module):
    """1x1 convolutions on the map, then the transform."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.GELU(),
            nn.Conv2d(out_channels, out_channels, 1),
        )

    def forward(self, feature: Tensor, keep: int) -> Tensor:
        """(B, C, H, W) -> complex (B, C_out, keep, (keep + 1) / 2)."""
        return _spectrum(self.body(feature), keep)


class _SpectralAligner(nn.Module):
    """The transform, then a complex linear map over channels. Its weight is held as real and imaginary part, since not
    every optimiser and backend takes complex parameters."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, out_channels, channels) / (2 * channels) ** 0.5)

    def forward(self, feature: Tensor, keep: int) -> Tensor:
        """(B, C, H, W) -> complex (B, C_out, keep, (keep + 1) / 2)."""
        return _mix_channels(_spectrum(feature, keep), self.weight)


_ALIGNERS: dict[str, type[_SpatialAligner] | type[_SpectralAligner]] = {
    "spatial": _SpatialAligner,
    "spectral": _SpectralAligner,
}
_spectrum = full_precision(_low_frequencies)


@full_precision
def _mix_channels(spectrum: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("oc,bchw->bohw", torch.complex(weight[0], weight[1]), spectrum)
