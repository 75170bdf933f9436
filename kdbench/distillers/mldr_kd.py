"""MLDR-KD: relations of classes and of samples, decoupled, at the logits of several levels."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.branches import ConvBranch, TokenBranch, initialise
from kdbench.distillers.parts.numerics import full_precision, kl_rows, with_terms
from kdbench.distillers.parts.outer_products import outer_kl
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def dfra_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    alpha: float = 2.0,
    temperature: float = 1.0,
    return_terms: bool = False,
) -> Any:
    """``R_c + R_s + alpha * P`` (Yang et al., arXiv 2502.06189); equal to MLDR-KD@0db65bc.

    With z = logits / T: ``R_c`` compares each sample's K x K matrix ``z z^T / sqrt(K)``, ``R_s`` each class's B x B matrix of its
    column of logits, also over ``sqrt(K)``; every column of such a matrix is a softmax, and its Kullback-Leibler divergence
    from the teacher's is averaged. ``P`` is that of the class probabilities. There is no T^2. No matrix is kept, so that the
    memory does not grow with K^2 or B^2.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K), no gradient.
        alpha: weight of ``P``.
        temperature: T > 0.
        return_terms: also return ``{"class_relation", "sample_relation", "probability"}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    student, teacher = student_logits / temperature, teacher_logits.detach() / temperature
    scale = 1.0 / math.sqrt(student.shape[1])
    terms = {
        "class_relation": outer_kl(student, teacher, scale),
        "sample_relation": outer_kl(student.mT, teacher.mT, scale),
        "probability": kl_rows(F.log_softmax(teacher, dim=1), F.log_softmax(student, dim=1)).mean(),
    }
    loss = terms["class_relation"] + terms["sample_relation"] + alpha * terms["probability"]
    return with_terms(loss, terms, return_terms)


@register_distiller("MLDR_KD", aliases=("MLDRKD",))
class MLDRKD(Distiller):
    """Multi-level decoupled relational distillation (Yang et al., 2025): OFA's branches predict logits at every student stage, a
    gate fuses them class by class, and the student's, the stages' and the fused logits all learn the teacher's relations.
    Branches and gate are dropped at inference.

    Of the teacher it needs logits alone. The release has ResNet students; OFA's token branch for token students is ours, and
    so are stages other than four. Statistics per process.
    """

    reference = "Yang et al. Multi-Level Decoupled Relational Distillation for Heterogeneous Architectures. arXiv 2502.06189 (2025)"
    verified = "MLDR-KD@0db65bc"
    student_needs = {"logits", "stages", "prefix"}
    min_batch = 2  # of one sample the relations of samples are constant
    batch_coupled = True
    defaults = {
        "TEMPERATURE": 1.0,
        "ALPHA": 2.0,
        "WIDTH": 0,  # of the branches' vectors; 0 = the larger of both networks' penultimate widths
        "GATE_HIDDEN": 0,  # 0 = four times the number of classes
        "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0, "STAGE_WEIGHT": 1.0, "FUSED_WEIGHT": 1.0},
    }
    domains = {
        "TEMPERATURE": "(0, inf)",
        "ALPHA": "[0, inf)",
        "WIDTH": "[0, inf)",
        "GATE_HIDDEN": "[0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.STAGE_WEIGHT": "[0, inf)",
        "LOSS.FUSED_WEIGHT": "[0, inf)",
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if student.token_features and student.penultimate % 4:
            return f"its token branch has 4 attention heads and the student is {student.penultimate} wide"
        if student.token_features and cfg.WIDTH not in (0, student.penultimate):
            return (
                f"its token branch is as wide as the student, {student.penultimate}, and MLDR_KD.WIDTH is {cfg.WIDTH}"
            )
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        spec, cfg = self.student_spec, self.cfg
        width = cfg.WIDTH or max(spec.penultimate, self.teacher_spec.penultimate)
        width = spec.penultimate if spec.token_features else width
        self.branches, self.heads = nn.ModuleList(), nn.ModuleList()
        for number, stage in enumerate(spec.stages, 1):
            deeper = len(spec.stages) - number
            with self.seeded(f"branch{number}"):
                if spec.token_features:
                    self.branches.append(TokenBranch(stage, width, deeper=deeper))
                else:
                    self.branches.append(ConvBranch(stage.channels, width, deeper=deeper, bias=False))
                self.heads.append(nn.Linear(width, spec.num_classes))
                self.branches[-1].apply(initialise)
                initialise(self.heads[-1])
        with self.seeded("fusion"):
            self.fusion = GatedFusion(width, cfg.GATE_HIDDEN or 4 * spec.num_classes, spec.num_classes)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        maps = zip(self.branches, asked(student.stages), asked(student.prefix))
        vectors = [branch(stage, prefix) for branch, stage, prefix in maps]
        logits = [head(vector) for head, vector in zip(self.heads, vectors)]
        fused, _ = self.fusion(vectors, logits)
        last, *levels = [
            dfra_loss(z, teacher.logits, alpha=cfg.ALPHA, temperature=cfg.TEMPERATURE)
            for z in (student.logits, *logits, fused)
        ]
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": cfg.LOSS.KD_WEIGHT * last,
            "stages": cfg.LOSS.STAGE_WEIGHT * torch.stack(levels[:-1]).sum(),
            "fused": cfg.LOSS.FUSED_WEIGHT * levels[-1],
        }


class GatedFusion(nn.Module):
    """Logits of several stages into one: a gate, shared by the stages, weighs them class by class."""

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, classes))
        self.gate.apply(initialise)

    def forward(self, vectors: list[Tensor], logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, D) and (B, K) of each of S stages -> (B, K), and the weights (B, S, K), which sum to 1 over the stages."""
        weights = torch.stack([self.gate(vector) for vector in vectors], dim=1).softmax(1)
        return (weights * torch.stack(logits, dim=1)).sum(1), weights
