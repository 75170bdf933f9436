"""Critical difference diagram (Demšar, JMLR 2006)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from kdbench.bench.comparison.statistics import Friedman
from kdbench.bench.pictures.canvas import pyplot, save
from kdbench.escape import picture


def plot_ranks(found: Friedman, path: str | Path) -> None:
    """Average ranks on an axis, best at the left; a bar joins methods that Nemenyi's test does not tell apart."""
    plt = pyplot()
    order = sorted(found.ranks.items(), key=lambda item: item[1])
    count, cliques = len(order), found.cliques()
    half = math.ceil(count / 2)
    bars = 0.32 * len(cliques)
    depth = bars + 0.4 * half + 0.3
    figure, axis = plt.subplots(figsize=(7.5, 0.95 + 0.42 * (depth + 1)), layout="constrained")
    axis.set_xlim(1 - 0.32 * (count - 1), count + 0.32 * (count - 1))
    axis.set_ylim(-depth, 1.3)
    axis.axis("off")
    axis.plot([1, count], [0, 0], color="black", linewidth=1.2)
    every = math.ceil(count / 15)  # numbers of more than fifteen ranks would touch
    for tick in range(1, count + 1):
        axis.plot([tick, tick], [0, 0.12], color="black", linewidth=1)
        if (tick - 1) % every == 0:
            axis.text(tick, 0.18, str(tick), ha="center", va="bottom", fontsize=9)
    width = min(found.critical_difference, count - 1)
    axis.plot([1, 1 + width], [0.95, 0.95], color="black", linewidth=1.2)
    for end in (1, 1 + width):
        axis.plot([end, end], [0.87, 1.03], color="black", linewidth=1.2)
    label = f"critical difference {found.critical_difference:.2f} ({found.blocks} pairs, level {found.alpha:g})"
    axis.text(1 + width + 0.06 * (count - 1), 0.95, label, va="center", fontsize=9)
    for number, group in enumerate(cliques):
        level = -0.22 - 0.32 * number
        ends = (found.ranks[group[0]] - 0.03, found.ranks[group[-1]] + 0.03)
        axis.plot(ends, (level, level), color="0.35", linewidth=4, solid_capstyle="butt")
    for place, (method, rank) in enumerate(order):
        left = place < half
        level = -bars - 0.3 - 0.4 * (place if left else count - 1 - place)
        _label(axis, method, rank, level, left, count)
    save(figure, path)


def _label(axis: Any, method: str, rank: float, level: float, left: bool, count: int) -> None:
    end = 1 - 0.06 * (count - 1) if left else count + 0.06 * (count - 1)
    axis.plot([rank, rank, end], [0, level, level], color="black", linewidth=0.8)
    shift = -0.015 * (count - 1) if left else 0.015 * (count - 1)
    name = picture(method)
    text = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
    axis.text(end + shift, level, text, ha="right" if left else "left", va="center", fontsize=9)
