"""LDRLD: local dense relations among the top classes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, kl_rows, with_terms
from kdbench.errors import ConfigError
from kdbench.models.spec import ModelOutput


@full_precision
def ldrld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    alpha: float = 10.5,
    beta: float = 7.0,
    k: int = 7,
    temperature: float = 4.0,
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
    weight = (_kept_pair_weights if s.device.type == "cpu" else _pair_weights)(
        k, decay, irw_scale, irw_offset, s.device
    )
    weight = weight.to(s)
    # A tuple of length 2 is a pair as well, and then gets the pair's weight.
    group_weight = weight[0, 1] if k == 2 else 1.0
    pair = _pairs(s_top, t_top) * weight
    group = kl_rows(t_top.log_softmax(1), s_top.log_softmax(1))
    tuples = k * (k - 1) // 2 + 1
    ldrld = temperature**2 * (pair.sum((1, 2)) + group_weight * group).mean() / tuples
    rntk = temperature**2 * _remaining(s, t, top).mean()
    return with_terms(alpha * ldrld + beta * rntk, {"ldrld": ldrld, "rntk": rntk}, return_terms)


def _pair_weights(k: int, decay: float, scale: float, offset: float, device: torch.device) -> Tensor:
    """(k, k) float64: weight of ranks i < j (counted from 1) above the diagonal, 0 elsewhere. Worked out where it is used: a copy
    from the host would wait for the device."""
    rank = torch.arange(1, k + 1, dtype=torch.float64, device=device)
    first, second = rank[:, None], rank[None, :]
    return (scale / (offset + (second - first).abs()) * torch.exp(-decay * (first + second))).triu(1)


_kept_pair_weights = functools.cache(_pair_weights)


def _pairs(s_top: Tensor, t_top: Tensor) -> Tensor:
    """(B, k, k): KL between the distributions restricted to classes i and j: a cross entropy of sigmoids minus an entropy
    (the teacher's part has no gradient, so that little is left to differentiate)."""
    s_gap, t_gap = s_top[:, :, None] - s_top[:, None, :], t_top[:, :, None] - t_top[:, None, :]
    log_p = F.logsigmoid(t_gap)
    log_q = log_p - t_gap
    q = log_q.exp()
    return log_p.exp() * log_p + q * log_q - F.logsigmoid(s_gap) + q * s_gap


def _remaining(s: Tensor, t: Tensor, top: Tensor) -> Tensor:
    """KL over the classes outside ``top``, of each row."""
    log_s = s - s.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    log_t = t - t.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    return (log_t.exp().scatter(1, top, 0.0) * (log_t - log_s)).sum(1)


def _check(k: int, num_classes: int, rank_by: str) -> None:
    if not 2 <= k < num_classes:
        raise ValueError(f"k is the number of top classes and must lie in 2..{num_classes - 1} (K - 1), got {k}")
    if rank_by not in ("student", "teacher"):
        raise ValueError(f"rank_by is 'student' or 'teacher', got {rank_by!r}")


@register_distiller("LDRLD")
class LDRLD(Distiller):
    """Local Dense Relational Logit Distillation (Xu et al., ICCV 2025): every pair among the student's top classes.

    The release raises the learning rate over 20 epochs (to ``LR * epoch / 20`` before epoch 20), for every method of its
    repository. After that nothing sets it to ``LR``: by a mistake it stays at 0.0475, the value of epoch 19, until the
    first decay, after epoch 150. ``configs/cifar100/ldrld.yaml`` has the warm-up and goes on at 0.05.
    """

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
    min_classes = 3  # two of them are a pair, and one is left for the rest
    domains = {
        "CE_WEIGHT": "[0, inf)",
        "ALPHA": "[0, inf)",
        "BETA": "[0, inf)",
        "K": "[2, inf)",
        "TEMPERATURE": "(0, inf)",
        "RANK_BY": ("student", "teacher"),
    }
    # Its repository gives one setting (32x32); this one, for 224x224 pairs, is kdbench's own start.
    presets = {"heterogeneous": {"ALPHA": 1.0, "BETA": 1.0, "TEMPERATURE": 1.0}}

    def setup(self) -> None:
        most = self.data.num_classes - 1
        if most < self.cfg.K:
            raise ConfigError(
                f"LDRLD.K: {self.cfg.K} top classes of {most + 1} leave none for the rest; expects 2 to {most}, for instance "
                f"LDRLD.K={max(2, most - 1)}"
            )

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.cfg.BETA > 0 and self.data.num_classes - 1 == self.cfg.K:
            yield "K leaves one class outside the top, with which nothing is compared: the term weighted by BETA is 0"

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
