"""What many methods gain against what a step of theirs costs."""

from __future__ import annotations

from pathlib import Path

from kdbench.bench.comparison.frontier import frontier
from kdbench.bench.comparison.study.study import Study
from kdbench.bench.pictures.canvas import panels, save
from kdbench.errors import KdbenchError
from kdbench.escape import picture

#: multiples of the student's step that are written at the axis, as far as it goes
_TICKS = (1, 2, 5, 10, 20, 50, 100)


def plot_steps(study: Study, path: str | Path) -> None:
    """A panel a pair: step time as a multiple of the student's alone (logarithmic) against mean top-1, a point a method as
    published, black where the test is sure. Those that no other one beats in both are joined, and named where there is room.

    Raises:
        KdbenchError: no step of these methods was timed.
    """
    table = study.table
    points = {pair: study.points(pair) for pair in table.pairs}
    pairs = [pair for pair in table.pairs if points[pair]]
    if not pairs:
        raise KdbenchError("no step of these methods was timed")
    lowest = min(min(top1 for _, top1 in (points[pair][m] for m in frontier(points[pair]))) for pair in pairs)
    highest = max(top1 for pair in pairs for _, top1 in points[pair].values())
    room = highest - lowest or 1.0
    figure, axes = panels(len(pairs), width=3.6, height=3.6, across=3, sharey=True, sharex=True)
    for axis, pair in zip(axes, pairs):
        best = frontier(points[pair])
        axis.step(
            [points[pair][m][0] for m in best], [points[pair][m][1] for m in best], where="post", color="0.75", zorder=1
        )
        for method, (cost, top1) in points[pair].items():
            test = study.tests.get((pair, method))
            face = "black" if test is not None and test.sign else "white"
            axis.plot(cost, top1, "o", markerfacecolor=face, markeredgecolor="black", markersize=4, zorder=2)
        last = float("inf")
        for method in reversed(best):
            cost, top1 = points[pair][method]
            if last - top1 > 0.05 * room:  # names would lie on each other
                last, at = top1, ((5, -2), "left") if method == best[-1] else ((-5, 2), "right")
                axis.annotate(picture(method), (cost, top1), at[0], textcoords="offset points", ha=at[1], fontsize=7)
        below = sum(top1 < lowest - 0.5 * room for _, top1 in points[pair].values())
        axis.set_ylim(lowest - 0.5 * room, highest + 0.12 * room)
        if below:
            axis.text(0.98, 0.02, f"{below} below", transform=axis.transAxes, ha="right", fontsize=7)
        axis.set_xscale("log")
        axis.set_xticks(_TICKS, list(map(str, _TICKS)))
        axis.set_xlim(0.4, 1.6 * max(cost for one in pairs for cost, _ in points[one].values()))
        axis.minorticks_off()
        axis.set_title(picture(pair), fontsize=10)
        axis.set_xlabel("time of a step, student alone = 1", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
    axes[0].set_ylabel(f"top-1 in percent, {table.select} epoch", fontsize=8)
    save(figure, path)
