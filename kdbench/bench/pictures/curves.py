"""Accuracy and loss over training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kdbench.bench.comparison.table import Table, check_table
from kdbench.bench.pictures.canvas import LINES, MARKS, legend_below, panels, save
from kdbench.bench.results.frames import load_curves
from kdbench.bench.results.labels import load_grid_results
from kdbench.escape import picture

Curve = dict[int, float]  # a value by epoch


#: what may be drawn by epoch, in words
QUANTITIES = {"top1": "top-1 in percent", "test_loss": "cross entropy on the test split"}


def curves_of(folder: str | Path, quantity: str = "top1") -> dict[str, Curve]:
    """Top-1 in percent (or another of :data:`QUANTITIES`) by epoch of every run below a folder, by the run's own folder; an
    unreadable one is skipped with a warning.

    Raises:
        KdbenchError: there is no such folder.
    """
    frame = load_curves(folder).dropna(subset=[quantity])
    return {
        str(place): {int(epoch): float(value) for epoch, value in zip(part.epoch, part[quantity])}
        for place, part in frame.groupby("folder", sort=False)
    }


def mean_curve(curves: list[Curve]) -> tuple[list[int], list[float]]:
    """Epochs that every curve has, and their mean."""
    epochs = sorted(set.intersection(*(set(c) for c in curves))) if curves else []
    return epochs, [float(np.mean([c[e] for c in curves])) for e in epochs]


def plot_curves(folder: str | Path, table: Table, path: str | Path, quantity: str = "top1") -> None:
    """A panel a pair: one of :data:`QUANTITIES` by epoch, the mean over seeds, a line a method."""
    check_table(table)
    from matplotlib.ticker import MaxNLocator

    frame, _ = load_grid_results(folder)
    found = curves_of(folder, quantity)
    rises = quantity == "top1"
    places: dict[tuple[str, str], list[str]] = {}
    for row in frame.dropna(subset=["folder"]).itertuples(index=False):
        places.setdefault((str(row.pair), str(row.label)), []).append(str(row.folder))
    styles = {m: (*LINES[i % len(LINES)], *MARKS[i % len(MARKS)]) for i, m in enumerate(table.methods)}
    figure, axes = panels(len(table.pairs), width=4.4, height=3.4)
    handles: dict[str, Any] = {}
    for axis, pair in zip(axes, table.pairs):
        lowest = []
        for method in table.methods:
            epochs, values = mean_curve([found[place] for place in places.get((pair, method), []) if place in found])
            if not epochs:
                continue
            style, shade, marker, face = styles[method]
            # a few markers a line, each method's at other epochs, tell many lines apart without colour
            every = max(1, len(epochs) // 5)
            (handle,) = axis.plot(epochs, values, linestyle=style, color=shade, linewidth=1.4, marker=marker)
            handle.set(markerfacecolor=face, markeredgecolor="black", markersize=5.5)
            handle.set_markevery((table.methods.index(method) % every, every))
            handles.setdefault(method, handle)
            lowest.append(values[len(values) // 4])
        # the first epochs, near chance, would flatten all that is of interest
        if lowest and rises:
            axis.set_ylim(bottom=min(lowest) - 2)
        elif lowest:
            axis.set_ylim(0, 1.15 * max(lowest))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_title(picture(pair), fontsize=10)
        axis.set_xlabel("epoch", fontsize=9)
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
    axes[0].set_ylabel(f"{QUANTITIES[quantity]}, mean over seeds", fontsize=9)
    legend_below(figure, {m: handles[m] for m in table.methods if m in handles}, handlelength=3.2)
    save(figure, path)
