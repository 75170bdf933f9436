"""What many methods gain over the student alone, on a few pairs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdbench.bench.comparison.seeds import baseline_of, seed_tests
from kdbench.bench.comparison.table import Table
from kdbench.bench.pictures.canvas import panels, save
from kdbench.errors import KdbenchError
from kdbench.escape import picture


def plot_gains(table: Table, path: str | Path, *, pairs: Sequence[str] = (), methods: Sequence[str] = ()) -> None:
    """A panel a pair, a row a method, best on average first: its mean difference from the student alone with the 95% t interval;
    black where the test is sure (:attr:`kdbench.bench.comparison.seeds.Tested.sign`), white where it is not. A loss greater than
    the greatest gain is a triangle at the left edge with its number, so that it does not press the gains together; an interval that
    goes on beyond the edge ends in a small one.

    Args:
        table: of many seeds.
        path: of the picture.
        pairs, methods: which of the table's; empty = all.

    Raises:
        KdbenchError: none of these has a difference.
    """
    tests = {(test.pair, test.method): test for test in seed_tests(table)}
    pairs = [pair for pair in pairs or table.pairs if any(place[0] == pair for place in tests)]
    means = {}
    for method in methods or table.methods:
        own = [tests[pair, method].difference.mean for pair in pairs if (pair, method) in tests]
        if own:
            means[method] = sum(own) / len(own)
    if not means:
        raise KdbenchError("no method has a difference from the baseline to draw")
    order = sorted(means, key=lambda method: -means[method])
    bases = dict.fromkeys(baseline_of(table, method) for method in order)
    shown = [tests[place].difference.mean for place in tests if place[0] in pairs and place[1] in means]
    edge = -max(1.0, *shown)
    height = 1.0 + 0.17 * len(order)
    figure, axes = panels(len(pairs), width=3.2, height=height, across=3, sharey=True, sharex=True)
    for axis, pair in zip(axes, pairs):
        for row, method in enumerate(order):
            test = tests.get((pair, method))
            if test is None:
                continue
            found = test.difference
            face = "black" if test.sign else "white"
            if found.mean < edge:
                axis.plot(edge, row, "<", markerfacecolor=face, markeredgecolor="black", markersize=5, zorder=3)
                axis.annotate(
                    f"{found.mean:+.1f}", (edge, row), (5, 0), textcoords="offset points", va="center", fontsize=6
                )
                continue
            if found.low is not None and found.high is not None:
                axis.plot([max(found.low, edge), found.high], [row, row], color="black", linewidth=1.1, zorder=2)
                if found.low < edge:
                    axis.plot(edge, row, "<", color="black", markersize=3, zorder=2)
            axis.plot(found.mean, row, "o", markerfacecolor=face, markeredgecolor="black", markersize=4, zorder=3)
        axis.axvline(0, color="0.5", linewidth=1, zorder=1)
        axis.set(yticks=range(len(order)), ylim=(len(order) - 0.5, -0.5))
        axis.set_yticklabels(list(map(picture, order)), fontsize=7)
        axis.tick_params(axis="x", labelsize=8)
        axis.set_title(picture(pair), fontsize=10)
        axis.set_xlabel(picture(f"difference from {' or '.join(bases)}, points"), fontsize=8)
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
    save(figure, path)
