"""LDRLD: local dense relations among the top classes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench.distillers._math import full_precision, kl_rows, with_terms
from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.errors import ConfigError
from kdbench.models.spec import ModelOutput


@full_precision
def ldrld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    alpha: float,
    beta: float,
    k: int,
    temperature: float,
    decay: float = 0.05,
    irw_scale: float = 2.0,
    irw_offset: float = 1.5,
    rank_by: str = "student",
    return_terms: bool = False,
) -> Any:
    """``alpha * LDRLD + beta * RNTK`` (Xu et al., ICCV 2025); LDRLD@b4dcfc9.

    Each of the k(k-1)/2 pairs of top-k classes, and the k-tuple itself, gives a KL divergence between the distributions
    restricted to it; pairs are weighted by rank (adaptive decay weight), the sum is divided by the number of tuples. RNTK
    is the KL divergence over the K - k remaining classes. A pair's restricted softmax is a sigmoid of the logit difference,
    so nothing is looped over.

    Args:
        student_logits, teacher_logits: (B, K).
        target: unused; the ground truth may lie in either set.
        alpha, beta: weights of the two terms.
        k: number of top classes, 2 <= k < K.
        temperature: T > 0; both terms hold T^2.
        decay, irw_scale, irw_offset: constants of the pair weight
            ``irw_scale / (irw_offset + |i - j|) * exp(-decay * (i + j))`` for ranks i, j = 1..k.
        rank_by: ``"student"`` (as the original does) or ``"teacher"``.
        return_terms: also return ``{"ldrld", "rntk"}``, unweighted.

    Returns:
        0-d tensor, mean over the batch, or ``(loss, terms)``.

    Raises:
        ValueError: k outside 2..K-1 (at k = K the original silently turns RNTK into plain KD), or an unknown rank_by.
    """
    _check(k, student_logits.shape[-1], rank_by)
    s, t = student_logits / temperature, teacher_logits / temperature
    top = (student_logits if rank_by == "student" else teacher_logits).detach().topk(k, dim=1).indices
    s_top, t_top = s.gather(1, top), t.gather(1, top)
    i, j = torch.triu_indices(k, k, offset=1, device=s.device)
    gap, rank_sum = (j - i).to(s.dtype), (i + j + 2).to(s.dtype)
    weight = irw_scale / (irw_offset + gap) * torch.exp(-decay * rank_sum)
    if k == 2:  # the k-tuple is then a pair as well, and gets the pair's weight
        group_weight = weight[0]
    else:
        group_weight = s.new_tensor(1.0)
    s_gap, t_gap = s_top[:, i] - s_top[:, j], t_top[:, i] - t_top[:, j]
    s_first, t_first = F.logsigmoid(s_gap), F.logsigmoid(t_gap)
    pair = t_first.exp() * (t_first - s_first) + (t_first - t_gap).exp() * (t_first - t_gap - s_first + s_gap)
    group = kl_rows(t_top.log_softmax(1), s_top.log_softmax(1))
    tuples = k * (k - 1) // 2 + 1
    ldrld = temperature**2 * ((pair * weight).sum(1) + group_weight * group).mean() / tuples
    rntk = temperature**2 * _remaining(s, t, top).mean()
    return with_terms(alpha * ldrld + beta * rntk, {"ldrld": ldrld, "rntk": rntk}, return_terms)


def _remaining(s: Tensor, t: Tensor, top: Tensor) -> Tensor:
    """KL over the classes outside ``top``, of each row."""
    mask = torch.zeros_like(s, dtype=torch.bool).scatter_(1, top, True)
    log_s = s - s.masked_fill(mask, -torch.inf).logsumexp(1, keepdim=True)
    log_t = t - t.masked_fill(mask, -torch.inf).logsumexp(1, keepdim=True)
    return (log_t.masked_fill(mask, -torch.inf).exp() * (log_t - log_s)).sum(1)


def _check(k: int, num_classes: int, rank_by: str) -> None:
    if not 2 <= k < num_classes:
        raise ValueError(f"k is the number of top classes and must lie in 2..{num_classes - 1} (K - 1), got {k}")
    if rank_by not in ("student", "teacher"):
        raise ValueError(f"rank_by is 'student' or 'teacher', got {rank_by!r}")


@register_distiller("LDRLD")
class LDRLD(Distiller):
    """Local Dense Relational Logit Distillation (Xu et al., ICCV 2025): every pair among the student's top classes."""

    reference = "Xu et al. Local Dense Logit Relations for Enhanced Knowledge Distillation. ICCV 2025, arXiv 2507.15911"
    verified = "LDRLD@b4dcfc9"
    defaults = {
        "CE_WEIGHT": 1.0,
        "ALPHA": 10.5,
        "BETA": 7.0,
        "K": 7,
        "TEMPERATURE": 4.0,
        "RANK_BY": "student",
    }
    # Its repository gives one setting (32x32); this one, for 224x224 pairs, is kdbench's own start.
    presets = {"heterogeneous": {"ALPHA": 1.0, "BETA": 1.0, "TEMPERATURE": 1.0}}

    def setup(self) -> None:
        try:
            _check(self.cfg.K, self.data.num_classes, self.cfg.RANK_BY)
        except ValueError as error:
            raise ConfigError(f"LDRLD.K / LDRLD.RANK_BY: {error}") from None

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        loss = ldrld_loss(
            student.logits,
            teacher.logits,
            alpha=cfg.ALPHA,
            beta=cfg.BETA,
            k=cfg.K,
            temperature=cfg.TEMPERATURE,
            rank_by=cfg.RANK_BY,
        )
        return {"ce": cfg.CE_WEIGHT * self.cross_entropy(student.logits, batch), "ldrld": loss}
