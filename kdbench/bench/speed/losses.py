"""Losses alone, forward and backward, against a plain KL divergence of the same size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from kdbench import functional
from kdbench.bench.speed.timing import interleave, milliseconds, ratio


def run(
    batch: int = 128, classes: tuple[int, ...] = (100, 1000), rounds: int = 21, threads: int = 1
) -> list[dict[str, Any]]:
    """Rows ``loss, K, ms, x KL``."""
    torch.set_num_threads(threads)
    rows = []
    for k in classes:
        student, teacher = torch.randn(batch, k, requires_grad=True), torch.randn(batch, k)
        target = torch.randint(0, k, (batch,))

        def backward(make: Callable[[], Any], leaf: torch.Tensor = student) -> Callable[[], None]:
            def call() -> None:
                leaf.grad = None
                make().backward()

            return call

        def kl(s: torch.Tensor = student, t: torch.Tensor = teacher) -> torch.Tensor:
            return F.kl_div(F.log_softmax(s / 4, 1), F.softmax(t / 4, 1), reduction="batchmean") * 16

        losses = _logit_losses(student, teacher, target)
        seconds = interleave(
            {"KL": backward(kl), **{n: backward(fn) for n, fn in losses.items()}}, rounds=rounds, inner=5
        )
        rows += [
            {
                "loss": name,
                "K": k,
                "ms": round(milliseconds(seconds, name), 3),
                "x KL": round(ratio(seconds, name, "KL"), 2),
            }
            for name in seconds
        ]
    return rows


def _logit_losses(s: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> dict[str, Callable[[], Any]]:
    f = functional
    return {
        "kd": lambda: f.kd_loss(s, t, temperature=4.0),
        "dkd": lambda: f.dkd_loss(s, t, y, alpha=1.0, beta=8.0, temperature=4.0),
        "dist": lambda: f.dist_loss(s, t, beta=1.0, gamma=1.0, temperature=4.0),
        "ofa": lambda: f.ofa_loss(s, t, y, eps=1.0, temperature=1.0),
        "ldrld": lambda: f.ldrld_loss(s, t, y, alpha=10.5, beta=7.0, k=7, temperature=4.0),
    }
