"""The statistics of a comparison as Markdown."""

from __future__ import annotations

import pandas as pd
from tabulate import tabulate

from kdbench.bench.comparison.cell import paired_differences
from kdbench.bench.comparison.statistics import (
    Friedman,
    PairTest,
    blocks_needed,
    friedman,
    pair_tests,
    smallest_p,
    summarise,
)
from kdbench.bench.comparison.table import Table, check_table
from kdbench.errors import KdbenchError
from kdbench.escape import markdown


def scores(table: Table) -> pd.DataFrame:
    """A row a pair, a column a method: means over the seeds of each cell, in percent; NaN where a cell is missing."""
    check_table(table)
    rows = {p: {m: _mean(table, p, m) for m in table.methods} for p in table.pairs}
    return pd.DataFrame.from_dict(rows, orient="index", columns=table.methods)


def ranks(table: Table) -> Friedman:
    """Friedman's test over the pairs of a table; see :func:`kdbench.bench.comparison.statistics.friedman`.

    Raises:
        KdbenchError: fewer than three methods have results, or fewer than two pairs have all of these.
    """
    check_table(table)
    frame = scores(table)
    return friedman(frame[[m for m in frame if frame[m].notna().any()]])


def report(table: Table) -> str:
    """Cells with intervals, paired differences, then ranks and tests over the pairs; says what cannot be said."""
    parts = ["## Cells: mean [95% t interval] (seeds)", _cells(table)]
    parts += [f"## Differences from {markdown(table.baseline)}, paired by seed", _differences(table)]
    parts.append(
        "No cell has a significance star: with a few seeds a test within a cell has next to no power, and many cells tested one "
        "by one make stars by chance. An interval that holds 0 means that these seeds do not tell the two apart."
    )
    parts += ["## Over pairs", _over_pairs(table), *map(markdown, table.notes())]
    return "\n\n".join(parts) + "\n"


def _mean(table: Table, pair: str, method: str) -> float | None:
    cell = table.cells.get((pair, method))
    return None if cell is None else cell.mean


def _cells(table: Table) -> str:
    rows = []
    for pair in table.pairs:
        cells = [table.cells.get((pair, m)) for m in table.methods]
        texts = [
            table.absent(pair, m) if cell is None else summarise(list(cell.values.values())).text()
            for m, cell in zip(table.methods, cells)
        ]
        rows.append([markdown(pair), *texts])
    return tabulate(rows, ["pair", *map(markdown, table.methods)], tablefmt="pipe", disable_numparse=True)


def _differences(table: Table) -> str:
    methods = [m for m in table.methods if m != table.baseline]
    rows = []
    for pair in table.pairs:
        base = table.cells.get((pair, table.baseline))
        texts = []
        for method in methods:
            by_seed = paired_differences(table.cells.get((pair, method)), base)
            texts.append(summarise(list(by_seed.values())).text() if by_seed else table.absent(pair, method))
        rows.append([markdown(pair), *texts])
    return tabulate(rows, ["pair", *map(markdown, methods)], tablefmt="pipe", disable_numparse=True)


def _over_pairs(table: Table) -> str:
    frame = scores(table)
    present = [m for m in frame if frame[m].notna().any()]
    parts = []
    try:
        found = ranks(table)
        lines = [[markdown(m), f"{r:.2f}"] for m, r in sorted(found.ranks.items(), key=lambda item: item[1])]
        parts.append(tabulate(lines, ["method", "average rank"], tablefmt="pipe", disable_numparse=True))
        parts.append(
            f"Friedman: chi2({len(found.ranks) - 1}) = {found.statistic:.2f}, p = {found.p:.3g} over {found.blocks} of "
            f"{len(frame)} pairs (those with every method). "
            f"Nemenyi's critical difference at {found.alpha:g}: {found.critical_difference:.2f} ranks."
        )
        groups = "; ".join(", ".join(map(markdown, group)) for group in found.cliques())
        parts.append(f"Not told apart: {groups or 'none'}.")
    except KdbenchError as error:
        parts.append(f"No ranks: {markdown(error)}.")
    if len(present) < 2:
        return "\n\n".join(parts)
    baseline = table.baseline if table.baseline in present else ""
    tests = pair_tests(frame[present], baseline=baseline)
    rows = [
        [
            f"{markdown(t.first)} - {markdown(t.second)}",
            f"{t.wins}/{t.ties}/{t.losses}",
            _difference(t.mean_difference),
            _p(t.p),
            _p(t.p_holm),
        ]
        for t in tests
    ]
    parts.append(
        tabulate(
            rows,
            ["methods", "wins/ties/losses", "mean difference", "Wilcoxon p", "p (Holm)"],
            tablefmt="pipe",
            disable_numparse=True,
        )
    )
    parts.append(_reachable(tests))
    return "\n\n".join(parts)


def _reachable(tests: list[PairTest]) -> str:
    """What the tests could have shown at best: with few pairs, nothing."""
    pairs = max(t.wins + t.losses for t in tests)
    needed = blocks_needed(len(tests))
    comparisons = "1 comparison" if len(tests) == 1 else f"{len(tests)} comparisons"
    return (
        f"Wilcoxon's signed-rank test over n pairs that differ has no p below 2/2^n, and Holm's correction multiplies the smallest "
        f"of {comparisons} by {len(tests)}: with the {pairs} pair{'s' * (pairs != 1)} here no corrected p below "
        f"{smallest_p(pairs, len(tests)):.3g} can be reached, and p < 0.05 takes {needed} pairs."
    )


def _difference(value: float) -> str:
    return "n/a" if value != value else f"{value:+.2f}"


def _p(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"
