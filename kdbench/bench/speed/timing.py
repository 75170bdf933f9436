"""Interleaved timing: the machine's drift hits all candidates alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def interleave(
    candidates: dict[str, Callable[[], object]], *, rounds: int = 15, inner: int = 1
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round, after one warm-up call of all; the order turns by one every round."""
    names = list(candidates)
    for name in names:
        candidates[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.perf_counter()
            for _ in range(inner):
                candidates[name]()
            seconds[name].append((time.perf_counter() - started) / inner)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, base: str) -> float:
    """Median over rounds of ``name``'s time relative to ``base``'s in the same round."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[base]))


def milliseconds(seconds: dict[str, list[float]], name: str) -> float:
    """Median time."""
    return 1e3 * statistics.median(seconds[name])
