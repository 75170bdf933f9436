"""OFA-KD: one for all, distillation in the logit space at every stage."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.branches import ConvBranch, TokenBranch, initialise
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.errors import ConfigError
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def ofa_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    eps: float = 1.0,
    temperature: float = 1.0,
    variant: str = "official",
    return_terms: bool = False,
) -> Any:
    """``mean_b sum_k -w_k log p_s[k]`` with ``w = (p_t + m)^eps - m``, m the one-hot label; OFAKD@f7bb896.

    There is no T^2 and no entropy term, so the value is not 0 at equal logits. eps > 1 raises the weight of the target and
    shrinks the others. ``variant="paper"`` is the formula as printed (Hao et al., NeurIPS 2023, Eq. 5): the exponent on the
    target alone, and the hard label inside: ``-(1 + p_t[y])^eps log p_s[y] - sum_{k != y} p_t[k] log p_s[k]``.

    Args:
        student_logits, teacher_logits: (B, K).
        target: (B,) int64 labels.
        eps: modulating exponent.
        temperature: T > 0 of both softmaxes.
        variant: ``"official"`` (the released code) or ``"paper"``.
        return_terms: also return ``{"ofa"}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    weight = _weights(teacher_logits, target, eps, temperature, variant)
    loss = -(weight * F.log_softmax(student_logits / temperature, dim=1)).sum(1).mean()
    return with_terms(loss, {"ofa": loss}, return_terms)


def _weights(teacher_logits: Tensor, target: Tensor, eps: float, temperature: float, variant: str) -> Tensor:
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    log_p_target = log_p.gather(1, target.unsqueeze(1))
    if variant == "official":
        # (1 + p)^eps - 1 without cancellation; the other classes' p^eps in log space
        return (eps * log_p).exp().scatter(1, target.unsqueeze(1), torch.expm1(eps * log_p_target.exp().log1p()))
    if variant == "paper":
        return log_p.exp().scatter(1, target.unsqueeze(1), (eps * log_p_target.exp().log1p()).exp())
    raise ValueError(f"variant is 'official' or 'paper', got {variant!r}")


@register_distiller("OFA")
class OFA(Distiller):
    """One-for-All (Hao et al., NeurIPS 2023): a branch at every student stage predicts logits, which learn from the
    teacher's; the target's weight is adaptive. The branches are dropped at inference.

    Where a small input or another number of stages leaves the paper's sizes, ``4 - i`` becomes ``S - i``, odd grids are
    cropped before tokens are merged, and a linear layer brings tokens to the student's width (ours).

    The presets take the stages of OFAKD's release (``STUDENT.STAGES: ofakd``); for a student that it does not have, name
    others (``STUDENT.STAGES: auto``).
    """

    reference = "Hao et al. One-for-All: Bridge the Gap Between Heterogeneous Architectures in KD. NeurIPS 2023"
    verified = "OFAKD@f7bb896"
    student_needs = {"logits", "stages", "prefix"}
    defaults = {
        "EPS": (1.0,),  # one value, or one a stage and the last for the logits
        "TEMPERATURE": 1.0,
        "STAGES": (),  # from 1, shallow to deep; () = all
        "VARIANT": "official",
        "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0, "OFA_WEIGHT": 1.0},
    }
    domains = {
        "EPS": "(0, inf)",
        "TEMPERATURE": "(0, inf)",
        "STAGES": "[1, inf)",
        "VARIANT": ("official", "paper"),
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.OFA_WEIGHT": "[0, inf)",
    }
    # OFAKD's own stages of its students: blocks 2, 4, 10 and 12 of ViT, DeiT and ResMLP, MobileNetV2's 1280-channel map
    presets = {
        "heterogeneous": {"STUDENT": {"STAGES": "ofakd"}},  # OFAKD's defaults
        "imagenet": {"EPS": (1.5,), "STUDENT": {"STAGES": "ofakd"}},  # OFAKD's README, DeiT-T -> ResNet18
        # the author's posted arguments for CIFAR-100 (OFAKD issue 14)
        "ofa_w01": {"LOSS": {"OFA_WEIGHT": 0.1}, "STUDENT": {"STAGES": "ofakd"}},
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if student.token_features and student.penultimate % 4:
            return f"its token branch has 4 attention heads and the student is {student.penultimate} wide"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        spec, count = self.student_spec, len(self.student_spec.stages)
        self.stages = stage_numbers("OFA.STAGES", self.cfg.STAGES, count)
        eps = tuple(float(e) for e in self.cfg.EPS)
        if len(eps) not in (1, len(self.stages) + 1):
            raise ConfigError(
                f"OFA.EPS: expects 1 or {len(self.stages) + 1} values (a stage each, then the logits), got {eps}"
            )
        self.eps = eps * (len(self.stages) + 1) if len(eps) == 1 else eps
        self.branches = nn.ModuleDict()
        width = max(spec.penultimate, self.teacher_spec.penultimate)
        for number in self.stages:
            with self.seeded(f"branch{number}"):
                if spec.token_features:
                    stage = spec.stages[number - 1]
                    body: nn.Module = TokenBranch(stage, spec.penultimate, deeper=count - number)
                    head_width = spec.penultimate
                else:
                    body = ConvBranch(spec.stages[number - 1].channels, width, deeper=count - number)
                    head_width = width
                branch = nn.ModuleDict({"body": body, "head": nn.Linear(head_width, spec.num_classes)})
                branch.apply(initialise)
                self.branches[str(number)] = branch

    def stage_logits(self, student: ModelOutput) -> list[Tensor]:
        """Logits of each branch: a list of (B, K)."""
        assert student.stages is not None
        assert student.prefix is not None
        logits = []
        for number in self.stages:
            branch = self.branches[str(number)]
            vector = branch["body"](student.stages[number - 1], student.prefix[number - 1])  # type: ignore[index]
            logits.append(branch["head"](vector))  # type: ignore[index]
        return logits

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg, labels = self.cfg, batch.labels
        stages = [
            ofa_loss(z, teacher.logits, labels, eps=eps, temperature=cfg.TEMPERATURE, variant=cfg.VARIANT)
            for z, eps in zip(self.stage_logits(student), self.eps)
        ]
        last = ofa_loss(
            student.logits, teacher.logits, labels, eps=self.eps[-1], temperature=cfg.TEMPERATURE, variant=cfg.VARIANT
        )
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": cfg.LOSS.KD_WEIGHT * last,
            "ofa": cfg.LOSS.OFA_WEIGHT * torch.stack(stages).sum(),
        }


def stage_numbers(key: str, chosen: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Stage numbers from 1; all of them where none is chosen.

    Raises:
        ConfigError: a number that the student does not have, or one twice.
    """
    numbers = tuple(chosen) or tuple(range(1, count + 1))
    if len(set(numbers)) != len(numbers) or not all(isinstance(n, int) and 1 <= n <= count for n in numbers):
        raise ConfigError(f"{key}: the student has stages 1 to {count}, got {numbers}")
    return numbers
