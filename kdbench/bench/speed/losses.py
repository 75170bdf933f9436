"""Losses alone, forward and backward, against a plain KL divergence of as many logits; CRD against its matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench import functional as f
from kdbench.bench.speed.timing import interleave, milliseconds, ratio

Call = Callable[[], Any]
#: regions of SDD's pyramid 1x1 + 2x2 + 4x4
REGIONS = 21
#: CRD as published: embedding width, negatives, samples of CIFAR-100, batch
_CRD = (128, 16_384, 50_000, 64)


def run(
    batch: int = 128, classes: tuple[int, ...] = (100, 1000), rounds: int = 21, threads: int = 1
) -> list[dict[str, Any]]:
    """Rows ``loss, size, ms, x base``; the base of the logit losses is ``KL``, that of SDD a KL over its regions' logits."""
    torch.set_num_threads(threads)
    rows = []
    for k in classes:
        losses, leaves = _logit_losses(batch, k)
        rows += _rows(f"B={batch} K={k}", "KL", losses, leaves, rounds)
        losses, leaves = _region_losses(batch, k)
        rows += _rows(f"B={batch} K={k} N={REGIONS}", "KL", losses, leaves, rounds)
    return rows + _contrast_rows(rounds)


def _contrast_rows(rounds: int) -> list[dict[str, Any]]:
    losses, leaves = _contrast()
    width, negatives, count, batch = _CRD
    size = f"B={batch} D={width} n={count} m={negatives}"
    # The gathered form goes last and apart: it takes gigabytes, and whatever ran after it would pay for their page faults.
    gathered = {name: losses[name] for name in ("products", "gathered products")}
    del losses["gathered products"]
    return (
        _rows(size, "products", losses, leaves, rounds) + _rows(size, "products", gathered, leaves, min(rounds, 3))[1:]
    )


def _rows(size: str, base: str, losses: dict[str, Call], leaves: list[Tensor], rounds: int) -> list[dict[str, Any]]:
    def backward(make: Call) -> Callable[[], None]:
        def call() -> None:
            for leaf in leaves:
                leaf.grad = None
            make().backward()

        return call

    seconds = interleave({n: backward(fn) for n, fn in losses.items()}, rounds=rounds, inner=5)
    return [
        {
            "loss": name,
            "size": size,
            "ms": round(milliseconds(seconds, name), 3),
            "x base": round(ratio(seconds, name, base), 2),
        }
        for name in seconds
    ]


def _kl(s: Tensor, t: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(s / 4, 1), F.softmax(t / 4, 1), reduction="batchmean") * 16


def _logit_losses(batch: int, k: int) -> tuple[dict[str, Call], list[Tensor]]:
    s, t, other = torch.randn(batch, k, requires_grad=True), torch.randn(batch, k), torch.randn(batch, k)
    y, theta, noises = torch.randint(0, k, (batch,)), torch.ones((), requires_grad=True), torch.randn(3, batch, k)
    # As the methods do; a loss of logits that are also noised is given its noise.
    return {
        "KL": lambda: _kl(s, t),
        "kd": lambda: f.kd_loss(s, t, temperature=4.0),
        "dkd": lambda: f.dkd_loss(s, t, y, alpha=1.0, beta=8.0, temperature=4.0),
        "dist": lambda: f.dist_loss(s, t, beta=1.0, gamma=1.0, temperature=4.0),
        "ofa": lambda: f.ofa_loss(s, t, y, eps=1.0, temperature=1.0),
        "ldrld": lambda: f.ldrld_loss(s, t, y, alpha=10.5, beta=7.0, k=7, temperature=4.0),
        "lskd": lambda: f.lskd_loss(s, t, temperature=2.0),
        "lskd_dkd": lambda: f.lskd_dkd_loss(s, t, y, alpha=1.0, beta=8.0, temperature=4.0),
        "rld": lambda: f.rld_loss(s, t, y, alpha=1.0, beta=4.0, temperature=4.0, alpha_temperature=4.0),
        "rld standardised": lambda: f.rld_loss(
            s, t, y, alpha=1.0, beta=4.0, temperature=4.0, alpha_temperature=4.0, standardize=True
        ),
        "ttm": lambda: f.ttm_loss(s, t, gamma=0.1),
        "wttm": lambda: f.wttm_loss(s, t, gamma=0.1),
        "ctkd": lambda: f.ctkd_loss(s, t, theta, grl_lambda=-1.0, t_start=1.0, t_end=20.0),
        "tekap": lambda: f.tekap_loss(s, t, noises, temperature=4.0),
        "ipwd": lambda: f.ipwd_loss(s, t, other, y, temperature=4.0),
    }, [s, theta]


def _region_losses(batch: int, k: int) -> tuple[dict[str, Call], list[Tensor]]:
    s, t = torch.randn(batch, k, REGIONS, requires_grad=True), torch.randn(batch, k, REGIONS)
    y = torch.randint(0, k, (batch,))
    return {
        "KL": lambda: _kl(s, t),
        "sdd_kd": lambda: f.sdd_kd_loss(s, t, y, temperature=4.0),
        "sdd_dkd": lambda: f.sdd_dkd_loss(s, t, y, alpha=1.0, beta=8.0, temperature=4.0),
    }, [s]


def _contrast() -> tuple[dict[str, Call], list[Tensor]]:
    width, negatives, count, batch = _CRD
    student, teacher = (F.normalize(torch.randn(batch, width), dim=1).requires_grad_() for _ in range(2))
    banks = [F.normalize(torch.randn(count, width), dim=1) for _ in range(2)]
    index, drawn = torch.randperm(count)[:batch], torch.randint(0, count, (batch, negatives))
    constants = {"z_student": torch.tensor(-1.0), "z_teacher": torch.tensor(-1.0)}

    def products() -> Tensor:
        """Both embeddings against the whole of the other's bank, the fewest products that score 16,384 of 50,000 rows."""
        return (student @ banks[1].T).sum() + (teacher @ banks[0].T).sum()

    def gathered() -> Tensor:
        """The published form: each sample's rows copied out of the bank, then multiplied."""
        rows = torch.cat((index.unsqueeze(1), drawn), dim=1)
        return sum(torch.bmm(b[rows], x.unsqueeze(2)).sum() for x, b in ((student, banks[1]), (teacher, banks[0])))  # type: ignore[return-value]

    def crd() -> Tensor:
        options = {"temperature": 0.07, "momentum": 0.5, "num_data": count}
        return f.crd_loss(student, teacher, index, drawn, *banks, **options, **constants)

    return {"products": products, "gathered products": gathered, "crd": crd}, [student, teacher]
