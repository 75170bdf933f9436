"""Teacher knowledge augmentation via perturbation, at the feature level, on CRD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdbench.distillers.base import Batch, Losses, register_distiller
from kdbench.distillers.crd import CRD, crd_loss
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.tekap import logit_noise, tekap_loss
from kdbench.models.spec import ModelOutput


@full_precision
def tekap_feature_loss(
    student_feat: Tensor,
    teacher_feat: Tensor,
    noise: Tensor | Sequence[Tensor],
    sample_index: Tensor,
    negative_index: Tensor,
    memory_student: Tensor,
    memory_teacher: Tensor,
    embed_student_weight: Tensor,
    embed_student_bias: Tensor,
    embed_teacher_weight: Tensor,
    embed_teacher_bias: Tensor,
    *,
    temperature: float = 0.07,
    momentum: float = 0.5,
    num_data: int,
    z_student: Tensor | None = None,
    z_teacher: Tensor | None = None,
    z_is_set: bool | None = None,
    noise_weight: float = 0.1,
    noise_scale: float = 0.1,
    gather: Callable[[Tensor], Tensor] | None = None,
    return_terms: bool = False,
) -> Any:
    """``(s_1 + t_1) + (s_1 + t_2)``: CRD with the teacher, and its teacher half again with a perturbed teacher.

    The perturbed feature ``(1 - w) f_t + w (scale noise)`` passes through the same embedding. The second contrast runs
    on the banks that the first has updated and updates them again; its student half is thrown away, so that the
    student's first half counts twice. Hossain et al., ICLR 2025; equal to TeKAP@279d380.

    Args:
        student_feat: (B, D_s); teacher_feat: (B, D_t), no gradient.
        noise: (B, D_t) standard normal (or a sequence of one such tensor).
        sample_index, negative_index, memory_student, memory_teacher, temperature, momentum, num_data, gather: as in
            :func:`~kdbench.distillers.crd.crd_loss`.
        embed_student_weight, embed_student_bias: (D, D_s), (D,); embed_teacher_weight, embed_teacher_bias: (D, D_t),
        (D,). z_student, z_teacher: 0-d, set in place while negative; None (both) for constants of this call alone.
        z_is_set: as in :func:`~kdbench.distillers.crd.crd_loss`.
        noise_weight, noise_scale: w and scale; the release's code makes the noise 0.01 of a standard deviation of 1.
        return_terms: also return ``student``, ``teacher`` and ``perturbed``: s_1, t_1 and t_2.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    noise = noise if isinstance(noise, Tensor) else noise[0]
    perturbed_feat = (1.0 - noise_weight) * teacher_feat + noise_weight * (noise_scale * noise)
    student = F.normalize(F.linear(student_feat, embed_student_weight, embed_student_bias), dim=1)
    teacher, perturbed = (
        F.normalize(F.linear(x, embed_teacher_weight, embed_teacher_bias), dim=1)
        for x in (teacher_feat, perturbed_feat)
    )
    shared: dict[str, Any] = {
        "sample_index": sample_index,
        "negative_index": negative_index,
        "memory_student": memory_student,
        "memory_teacher": memory_teacher,
        "z_student": student.new_full((), -1.0) if z_student is None else z_student,
        "z_teacher": student.new_full((), -1.0) if z_teacher is None else z_teacher,
        "temperature": temperature,
        "momentum": momentum,
        "num_data": num_data,
        "return_terms": True,
    }
    if gather is not None:
        shared["gather"] = gather
    z_is_set = False if z_student is None and z_teacher is None else z_is_set
    _, first = crd_loss(student, teacher, z_is_set=z_is_set, **shared)
    _, second = crd_loss(student.detach(), perturbed, z_is_set=True, **shared)
    terms = {"student": first["student"], "teacher": first["teacher"], "perturbed": second["teacher"]}
    return with_terms(2.0 * terms["student"] + terms["teacher"] + terms["perturbed"], terms, return_terms)


@register_distiller("TEKAP_F")
class TeKAPF(CRD):
    """Teacher Knowledge Augmentation via Perturbation (Hossain et al., ICLR 2025), feature level, on CRD's banks.

    ``LOSS.KD_WEIGHT`` above 0 adds the logit level (the release's "F+L" with weight 1, preset ``both_levels``).
    """

    reference = "Hossain et al. Single Teacher, Multiple Perspectives: Teacher Knowledge Augmentation. ICLR 2025"
    verified = "TeKAP@279d380"
    teacher_needs = {"logits", "penultimate"}
    defaults = {
        **CRD.defaults,
        "TEMPERATURE": 4.0,
        "NUM_AUGMENTED": 3,
        "NOISE_WEIGHT": 0.1,
        "NOISE_SCALE": 0.1,
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 0.8, "KD_WEIGHT": 0.0},
    }
    domains = {
        **CRD.domains,
        "TEMPERATURE": "(0, inf)",
        "NUM_AUGMENTED": "[1, inf)",
        "NOISE_WEIGHT": "[0, 1]",
        "NOISE_SCALE": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
    }
    effective = {
        **CRD.effective,
        "TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"},
        "NUM_AUGMENTED": {"LOSS.KD_WEIGHT": "(0, inf)"},
    }
    presets = {"both_levels": {"LOSS": {"KD_WEIGHT": 1.0}}}

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        noise = batch.generator("tekap/features").normal(teacher.penultimate.shape[1])
        feature = tekap_feature_loss(
            student.penultimate,
            teacher.penultimate,
            noise.to(teacher.penultimate),
            embed_student_weight=self.embed_student.weight,
            embed_student_bias=self.embed_student.bias,
            embed_teacher_weight=self.embed_teacher.weight,
            embed_teacher_bias=self.embed_teacher.bias,
            noise_weight=cfg.NOISE_WEIGHT,
            noise_scale=cfg.NOISE_SCALE,
            **self.contrast(batch),
        )
        self._z_is_set = True
        terms = {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "feature": cfg.LOSS.FEAT_WEIGHT * feature,
        }
        if cfg.LOSS.KD_WEIGHT > 0:
            noises = logit_noise(teacher.logits, batch, cfg.NUM_AUGMENTED)
            kd = tekap_loss(
                student.logits, teacher.logits, noises, temperature=cfg.TEMPERATURE, noise_weight=cfg.NOISE_WEIGHT
            )
            terms["kd"] = cfg.LOSS.KD_WEIGHT * kd
        return terms
