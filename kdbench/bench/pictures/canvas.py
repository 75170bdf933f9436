"""Dots and intervals of a comparison, readable in grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdbench.bench.comparison.statistics import summarise
from kdbench.bench.comparison.table import Table

#: told apart without colour: marker, and grey of the face
MARKS = [(marker, face) for face in ("black", "white", "0.6") for marker in "osD^vPX<>*"]
LINES = [(style, shade) for shade in ("black", "0.45", "0.7") for style in ("-", "--", ":", "-.")]


def pyplot() -> Any:
    """matplotlib's pyplot without a display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def panels(
    count: int, *, width: float = 4.4, height: float = 3.2, across: int = 3, **options: Any
) -> tuple[Any, list[Any]]:
    """A figure of ``count`` axes, at most ``across`` side by side; sizes in inches."""
    plt = pyplot()
    columns = max(1, min(across, count))
    rows = -(-count // columns)
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.set_visible(False)
    return figure, flat[:count]


def legend_below(figure: Any, handles: dict[str, Any], **options: Any) -> None:
    """One legend below all panels, in as many columns as fit into the figure, which grows by the legend's height."""
    if not handles:
        return
    for columns in range(min(8, len(handles)), 0, -1):
        legend = figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=columns, fontsize=9, **options
        )
        box = legend.get_window_extent(figure.canvas.get_renderer())
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def save(figure: Any, path: str | Path) -> None:
    """Write a PNG of 150 dots an inch and forget the figure."""
    figure.savefig(path, dpi=150)
    pyplot().close(figure)


def plot_table(table: Table, path: str | Path) -> None:
    """A panel a pair: each method's seeds as small circles, its mean as a dot with the 95% t interval of the report on statistics
    (none for a single seed); a dashed line marks the baseline's mean."""
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
        axis.set_title(pair, fontsize=10)
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
    axes[0].set_yticks(range(len(table.methods)), table.methods)
    axes[0].invert_yaxis()
    figure.supxlabel(
        f"top-1 in percent, {table.select} epoch. Dot and bar: mean and 95% t interval;\n"
        f"circles: seeds; dashed: {table.baseline}",
        fontsize=8,
        color="0.3",
    )
    save(figure, path)
