"""Dots and intervals of a comparison, readable in grey."""

from __future__ import annotations

from pathlib import Path

from kdbench.bench.comparison.statistics import summarise
from kdbench.bench.comparison.table import Table, check_table
from kdbench.bench.pictures.canvas import panels, save
from kdbench.escape import picture


def plot_table(table: Table, path: str | Path) -> None:
    """A panel a pair: each method's seeds as small circles, its mean as a dot with the 95% t interval of the report on statistics
    (none for a single seed); a dashed line marks the baseline's mean."""
    check_table(table)
    height = 0.9 + 0.3 * len(table.methods)
    figure, axes = panels(len(table.pairs), width=4.0, height=height, sharey=True)
    for axis, pair in zip(axes, table.pairs):
        base = table.cells.get((pair, table.baseline))
        if base is not None:
            axis.axvline(base.mean, color="0.6", linestyle="--", linewidth=1)
        for row, method in enumerate(table.methods):
            entry = table.cells.get((pair, method))
            if entry is None:
                continue
            seeds = list(entry.values.values())
            axis.plot(seeds, [row] * entry.n, "o", color="0.65", markersize=4, markerfacecolor="none")
            shown = summarise(seeds)
            bars = None if shown.high is None else shown.high - shown.mean
            axis.errorbar(entry.mean, row, xerr=bars, fmt="o", color="black", markersize=5, capsize=3, linewidth=1.3)
        axis.set_title(picture(pair), fontsize=10)
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
    axes[0].set_yticks(range(len(table.methods)), list(map(picture, table.methods)))
    axes[0].invert_yaxis()
    figure.supxlabel(
        f"top-1 in percent, {table.select} epoch. Dot and bar: mean and 95% t interval;\n"
        f"circles: seeds; dashed: {picture(table.baseline)}",
        fontsize=8,
        color="0.3",
    )
    save(figure, path)
