"""What each method gains over the baseline, with intervals."""

from __future__ import annotations

from pathlib import Path

from kdbench.bench.comparison.cell import paired_differences
from kdbench.bench.comparison.statistics import Summary, summarise
from kdbench.bench.comparison.table import Table, check_table
from kdbench.bench.pictures.canvas import panels, save
from kdbench.escape import picture


def differences(table: Table) -> dict[tuple[str, str], Summary]:
    """Differences from the baseline, paired by seed, by (pair, method); only where there are any."""
    check_table(table)
    found = {}
    for (pair, method), cell in table.cells.items():
        by_seed = paired_differences(cell, table.cells.get((pair, table.baseline)))
        if method != table.baseline and by_seed:
            found[pair, method] = summarise(list(by_seed.values()))
    return found


def plot_differences(table: Table, path: str | Path) -> None:
    """A panel a pair: a row a method, its mean difference from the baseline and the 95% t interval, and a line at 0."""
    found = differences(table)
    methods = [method for method in table.methods if method != table.baseline]
    figure, axes = panels(len(table.pairs), width=4.4, height=0.9 + 0.3 * len(methods), across=2, sharex=True)
    for axis, pair in zip(axes, table.pairs):
        for row, method in enumerate(methods):
            summary = found.get((pair, method))
            if summary is None:
                continue
            if summary.low is not None and summary.high is not None:
                axis.plot([summary.low, summary.high], [row, row], color="black", linewidth=1.4)
            axis.plot(summary.mean, row, "o", color="black", markersize=5)
        axis.axvline(0, color="0.6", linewidth=1)
        axis.set(yticks=range(len(methods)), ylim=(len(methods) - 0.5, -0.5), title=picture(pair))
        axis.set_yticklabels(list(map(picture, methods)))
        axis.set_xlabel(picture(f"difference from {table.baseline}, points"))
        axis.grid(axis="x", color="0.9")
    save(figure, path)
