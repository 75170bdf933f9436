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
    sides = {
        (p, m): (table.cells.get((p, tuned_label(m))), table.cells.get((p, m)))
        for p in table.pairs
        for m in table.methods
    }
    values = {place: list(paired_differences(*both).values()) for place, both in sides.items()}
    return corrected([Change.of(v, pair=p, method=m, unchanged=not any(v)) for (p, m), v in values.items() if v])


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
