"""Distillation through attention: a token of its own for the teacher."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def deit_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    kind: str = "hard",
    temperature: float = 1.0,
    return_terms: bool = False,
) -> Any:
    """What the distillation head learns from the teacher (Touvron et al., ICML 2021); equal to deit@7e160fe.

    ``hard``: the cross entropy with the teacher's class, ``CE(z_s, argmax z_t)``. ``soft``: ``T^2 KL(t || s)``, summed and divided
    by B K, which is K times less than usual.

    Args:
        student_logits: (B, K), of the distillation head.
        teacher_logits: (B, K), no gradient.
        kind: ``hard`` or ``soft``.
        temperature: T > 0 of ``soft``.
        return_terms: also return an empty dictionary.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    if kind == "hard":
        return with_terms(F.cross_entropy(student_logits, teacher_logits.argmax(1)), {}, return_terms)
    rows = tempered_kl(student_logits, teacher_logits, temperature)
    return with_terms(rows.mean() / student_logits.shape[1], {}, return_terms)


@register_distiller("DEIT")
class DeiT(Distiller):
    """DeiT's distillation token (Touvron et al., ICML 2021): the class token's head learns the label, the head of a second token
    the teacher's decision. Their mean classifies, in evaluation as after the export.

    The student has to have that token: timm's ``deit_tiny_distilled_patch16_224``, ``deit_small_...`` and ``deit_base_...``, or
    ``small_vit`` with ``distilled=True``. Any network teaches; it sees the image that the student sees, mixed ones too.
    """

    reference = (
        "Touvron, Cord, Douze, Massa, Sablayrolles, Jegou. Training Data-efficient Image Transformers & Distillation through "
        "Attention. ICML 2021, arXiv 2012.12877"
    )
    kind = "logits"
    verified = "deit@7e160fe"
    student_needs = {"logits", "head_logits"}
    defaults = {"ALPHA": 0.5, "KIND": "hard", "TEMPERATURE": 1.0}
    domains = {"ALPHA": "[0, 1]", "KIND": ("hard", "soft"), "TEMPERATURE": "(0, inf)"}
    effective = {"TEMPERATURE": {"KIND": ("soft",)}}

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if "head_logits" not in student.provides:
            return (
                f"the student {student.name} has no distillation token, which timm:deit_tiny_distilled_patch16_224 has"
            )
        return super().refuses(student, teacher, cfg, data)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        own, distilled = asked(student.head_logits)
        deit = deit_loss(distilled, teacher.logits, kind=cfg.KIND, temperature=cfg.TEMPERATURE)
        return {"ce": (1.0 - cfg.ALPHA) * self.cross_entropy(own, batch), "deit": cfg.ALPHA * deit}
