"""The same method with published and with tuned values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdbench.bench.comparison.cell import paired_differences
from kdbench.bench.comparison.seeds import paired_t, told
from kdbench.bench.comparison.statistics import Summary, holm, summarise
from kdbench.bench.comparison.table import Table, check_table
from kdbench.bench.results.tuning import tuned_label


@dataclass(frozen=True)
class Change:
    """What tuning changed for a method on one pair.

    Attributes:
        pair, method: whose; the label as published.
        change: accuracy as tuned less accuracy as published, paired by seed, in percentage points.
        unchanged: every seed has the accuracy that it had.
        p: of a two-sided paired t test; None for few seeds.
        p_holm: corrected by Holm's procedure over all changes of the table that have a p.
    """

    pair: str
    method: str
    change: Summary
    unchanged: bool
    p: float | None = None
    p_holm: float | None = None

    @property
    def sign(self) -> int:
        """1 where the tuned values are surely better than the published ones, -1 where they are surely worse, else 0."""
        return told(self.change.mean, self.p_holm)


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
                found.append(Change(pair, method, summarise(values), not any(values), paired_t(values)))
    return [replace(one, p_holm=p) for one, p in zip(found, holm([one.p for one in found]))]


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
