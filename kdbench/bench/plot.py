"""Pictures of a comparison, readable in grey."""

from __future__ import annotations

from pathlib import Path

from kdbench.bench.table import Table


def plot_table(table: Table, path: str | Path) -> None:
    """A panel a pair: each method's seeds as small circles, its mean as a dot with an interval of one standard deviation;
    a dashed line marks the baseline's mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    height = 1.0 + 0.36 * len(table.methods)
    figure, axes = plt.subplots(
        1,
        len(table.pairs),
        figsize=(1.4 + 3.6 * len(table.pairs), height),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, pair in zip(axes[0], table.pairs):
        base = table.entries.get((pair, table.baseline))
        if base is not None:
            axis.axvline(base.mean, color="0.6", linestyle="--", linewidth=1)
        for row, method in enumerate(table.methods):
            entry = table.entries.get((pair, method))
            if entry is None:
                continue
            axis.plot(
                list(entry.values.values()), [row] * entry.n, "o", color="0.65", markersize=4, markerfacecolor="none"
            )
            axis.errorbar(
                entry.mean, row, xerr=entry.sd or 0.0, fmt="o", color="black", markersize=5, capsize=3, linewidth=1.3
            )
        axis.set_title(pair, fontsize=10)
        axis.set_xlabel(f"top-1 in percent, {table.select} epoch", fontsize=9)
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
    axes[0][0].set_yticks(range(len(table.methods)), table.methods)
    axes[0][0].invert_yaxis()
    figure.supxlabel(
        f"dot and bar: mean ± standard deviation; circles: seeds; dashed: {table.baseline}", fontsize=8, color="0.3"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)
