"""Universal self-knowledge distillation, without a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.decoupled import MASKED
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.spec import ModelOutput, ModelSpec

_EPS = 1e-6


@full_precision
def uskd_loss(
    student_logits: Tensor,
    weak_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 0.1,
    mu: float = 0.005,
    rank: str = "release",
    return_terms: bool = False,
) -> Any:
    """``alpha L_target + beta L_non_target + mu L_weak`` (Yang et al., ICCV 2023); equal to cls_KD@1e5d48f.

    The target's soft label is ``p_y^2 + 1 - mean_b p_y^2`` of the student's own softmax p. The other classes' is Zipf's law, 1 / r,
    normalised, in the order of a score: the class's weak probability over that of all but the target, plus the same of the student.
    ``L_weak`` is the cross entropy of the weak logits with labels smoothed by 0.1. Of a soft label the two largest entries are
    targets, as far as they are positive (the release takes two always), with ``p_y^2 + v - mean_b p_y^2`` for an entry v.

    Args:
        student_logits: (B, K).
        weak_logits: (B, K), of an earlier stage.
        target: (B,) int64 labels, or (B, K) soft labels.
        alpha, beta, mu: weights of the terms.
        rank: ``release``: the student's half of the score is of log-probabilities, by a slip; ``paper``: of probabilities.
        return_terms: also return ``target``, ``non_target`` and ``weak``, unweighted.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    classes = student_logits.shape[1]
    log_prob, weak_log_prob = student_logits.log_softmax(1), weak_logits.log_softmax(1)
    if target.dim() == 1:
        label = torch.zeros_like(log_prob).scatter(1, target.unsqueeze(1), 1.0)
        share, index = torch.ones_like(log_prob[:, :1]), target.unsqueeze(1)
    else:
        label = target.to(log_prob)
        share, index = label.topk(2, dim=1)
    counts = (share > 0).to(log_prob)  # (B, 1) or (B, 2)
    with torch.no_grad():
        own = log_prob.gather(1, index).exp().square()
        soft = counts * (own + share - own.mean(0))
        weak = weak_log_prob.exp()
        score = weak / (1.0 - (counts * weak.gather(1, index)).sum(1, keepdim=True) + _EPS)
        strong = log_prob if rank == "release" else log_prob.exp()
        score = score + strong / (1.0 - (counts * strong.gather(1, index)).sum(1, keepdim=True) + _EPS)
        order = score.argsort(dim=1, descending=True, stable=True)
        position = torch.arange(1, classes + 1, device=order.device).to(score).expand_as(score)
        others = 1.0 - torch.zeros_like(score).scatter(1, index, counts)
        zipf = others * torch.zeros_like(score).scatter(1, order, 1.0 / position)
        zipf = zipf / zipf.sum(1, keepdim=True).clamp_min(_EPS)  # no class may be left
    smooth = 0.9 * label + 0.1 / classes
    terms = {
        "target": -(soft * log_prob.gather(1, index)).sum(1).mean(),
        "non_target": -(zipf * (student_logits + MASKED * (1.0 - others)).log_softmax(1)).sum(1).mean(),
        "weak": -(smooth * weak_log_prob).sum(1).mean(),
    }
    loss = alpha * terms["target"] + beta * terms["non_target"] + mu * terms["weak"]
    return with_terms(loss, terms, return_terms)


@register_distiller("USKD")
class USKD(Distiller):
    """Universal Self-Knowledge Distillation (Yang et al., ICCV 2023), without a teacher: soft labels made of the student's own
    outputs and of a classifier on its last stage but one.

    That classifier is linear on the mean over the stage's places and dropped afterwards. The release reads DeiT's class token
    there; here it is the mean over the patches. ``RANK: paper`` orders the classes by the paper's formula.
    """

    reference = (
        "Yang, Zeng, Yuan, Li. From Knowledge Distillation to Self-Knowledge Distillation. ICCV 2023, arXiv 2303.13005"
    )
    kind = "logits"
    verified = "cls_KD@1e5d48f"
    uses_teacher = False
    teacher_needs = frozenset(())
    student_needs = {"logits", "stages"}
    batch_coupled = True
    defaults = {"ALPHA": 1.0, "BETA": 0.1, "MU": 0.005, "RANK": "release", "CE_WEIGHT": 1.0}
    domains = {
        "ALPHA": "[0, inf)",
        "BETA": "[0, inf)",
        "MU": "[0, inf)",
        "RANK": ("release", "paper"),
        "CE_WEIGHT": "[0, inf)",
    }
    presets = {"cifar": {"ALPHA": 0.1, "BETA": 0.1, "MU": 0.1}}  # cls_KD: ResNet18 on CIFAR-100

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if "stages" in student.provides and len(student.stages) < 2:
            return f"the student {student.name} has one stage, and it classifies by the last but one"
        return super().refuses(student, teacher, cfg, data)

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.data.num_classes == 2 and self.cfg.BETA > 0:
            yield "with two classes its part about the classes besides the label, weighted by BETA, compares nothing and is 0"

    def setup(self) -> None:
        self.weak = nn.Linear(self.student_spec.stages[-2].channels, self.data.num_classes)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        weak = self.weak(asked(student.stages)[-2].mean((2, 3)))
        uskd = uskd_loss(student.logits, weak, batch.target, alpha=cfg.ALPHA, beta=cfg.BETA, mu=cfg.MU, rank=cfg.RANK)
        return {"ce": cfg.CE_WEIGHT * self.cross_entropy(student.logits, batch), "uskd": uskd}
