"""The same method with published and with tuned values."""

from __future__ import annotations

from dataclasses import dataclass

from kdbench.bench.comparison.cell import paired_differences
from kdbench.bench.comparison.seeds import Tested, corrected
from kdbench.bench.comparison.table import Table, check_table
from kdbench.bench.results.tuning import tuned_label


@dataclass(frozen=True, kw_only=True)
class Change(Tested):
    """What tuning changed for a method on one pair. Its ``difference`` is the accuracy as tuned less the one as published.

    Attributes:
        pair, method: whose; the label as published.
        unchanged: every seed has the accuracy that it had.
    """

    pair: str
    method: str
    unchanged: bool


def tuning_changes(table: Table) -> list[Change]:
    """Every method that has results as published and as tuned, the student alone too, pair by pair in the table's order.

    Raises:
        KdbenchError: this is no table.
    """
    check_table(table)
    found = []
    for pair in table.pairs:
        for method in table.methods:
            before, after = table.cells.get((pair, method)), table.cells.get((pair, tuned_label(method)))
            values = list(paired_differences(after, before).values())
            if values:
                found.append(Change.of(values, pair=pair, method=method, unchanged=not any(values)))
    return corrected(found)


def rankings_agree(table: Table) -> dict[str, tuple[float, int]]:
    """Kendall's tau-b between the methods' means as published and as tuned, with the number of methods, by pair; only pairs with at
    least three methods that have both.

    Raises:
        KdbenchError: this is no table.
    """
    from scipy import stats

    check_table(table)
    found = {}
    for pair in table.pairs:
        both = [m for m in table.methods if (pair, m) in table.cells and (pair, tuned_label(m)) in table.cells]
        if len(both) < 3:
            continue
        before = [table.cells[pair, m].mean for m in both]
        after = [table.cells[pair, tuned_label(m)].mean for m in both]
        found[pair] = (float(stats.kendalltau(before, after).statistic), len(both))
    return found
