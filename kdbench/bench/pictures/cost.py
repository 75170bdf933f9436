"""Accuracy against what it costs to train."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.bench.comparison.frontier import frontier
from kdbench.bench.comparison.table import Table, check_table
from kdbench.bench.pictures.canvas import MARKS, legend_below, panels, save
from kdbench.bench.results.labels import load_grid_results
from kdbench.bench.results.rows_file import is_rows_file
from kdbench.bench.results.run_files import is_cost_mixed, timing_of
from kdbench.escape import picture


def costs(folder: str | Path) -> pd.DataFrame:
    """Mean seconds per epoch by pair and label (columns ``pair``, ``label``, ``seconds``), from ``timing.jsonl``; where that is
    missing, the run's seconds divided by its epochs, which hold evaluation and export too. Runs that a GPU trained together with
    others, or whose epochs all filled a cache, have no seconds of their own: they are left out.

    Raises:
        KdbenchError: see :func:`kdbench.bench.results.labels.load_grid_results`.
    """
    frame, _ = load_grid_results(folder)
    if is_rows_file(folder):
        return _means(frame.assign(seconds=frame["seconds_per_epoch"]))
    frame = frame.dropna(subset=["folder"]).copy()
    fallback = frame["seconds"] / frame["epochs"]
    frame["seconds"] = [_seconds(place, float(rough)) for place, rough in zip(frame["folder"], fallback)]
    return _means(frame)


def _means(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.dropna(subset=["seconds"]).groupby(["pair", "label"], sort=False)["seconds"].mean().reset_index()


def _seconds(folder: str, rough: float) -> float:
    timed = timing_of(folder).get("seconds_per_epoch")
    if timed is not None:
        return timed
    return math.nan if is_cost_mixed(folder) else rough


def plot_cost(folder: str | Path, table: Table, path: str | Path) -> None:
    """A panel a pair: seconds per epoch against top-1, a marker a method, and the line of those that no other one beats in
    both."""
    check_table(table)
    seconds = {(str(r.pair), str(r.label)): float(r.seconds) for r in _rows(costs(folder))}
    marks = {method: MARKS[i % len(MARKS)] for i, method in enumerate(table.methods)}
    figure, axes = panels(len(table.pairs), width=4.2, height=3.4)
    handles: dict[str, Any] = {}
    for axis, pair in zip(axes, table.pairs):
        points = {
            m: (seconds[pair, m], table.cells[pair, m].mean)
            for m in table.methods
            if (pair, m) in seconds and (pair, m) in table.cells
        }
        best = frontier(points)
        axis.step([points[m][0] for m in best], [points[m][1] for m in best], where="post", color="0.75", zorder=1)
        for method, (cost, top1) in points.items():
            marker, face = marks[method]
            (handle,) = axis.plot(
                cost, top1, marker, markerfacecolor=face, markeredgecolor="black", markersize=7, linestyle="none"
            )
            handles.setdefault(method, handle)
        axis.set_title(picture(pair), fontsize=10)
        axis.margins(0.12)
        axis.set_xlabel("seconds per epoch", fontsize=9)
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
    axes[0].set_ylabel(f"top-1 in percent, {table.select} epoch", fontsize=9)
    legend_below(figure, {m: handles[m] for m in table.methods if m in handles})
    save(figure, path)


def _rows(frame: pd.DataFrame) -> Any:
    return frame.itertuples(index=False)
