"""Cells of many seeds against the student alone: paired differences, and a t test of each, corrected over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kdbench.bench.comparison.cell import Cell, paired_differences
from kdbench.bench.comparison.statistics import Summary, holm, summarise
from kdbench.bench.comparison.table import Table, check_table
from kdbench.bench.results.tuning import is_tuned_label, tuned_label

#: fewest seeds of which a test is made: with fewer it misses what tables of distillation differ by (docs/statistics.md)
MIN_SEEDS = 6
LEVEL = 0.05


@dataclass(frozen=True)
class SeedTest:
    """A method on one pair against its baseline.

    Attributes:
        pair, method: labels of the cell.
        cell: its accuracies.
        difference: from the baseline, paired by seed, in percentage points.
        p: of a two-sided paired t test; None for fewer than :data:`MIN_SEEDS` seeds.
        p_holm: corrected by Holm's procedure over every cell of the table that has a p.
    """

    pair: str
    method: str
    cell: Cell
    difference: Summary
    p: float | None = None
    p_holm: float | None = None

    @property
    def sign(self) -> int:
        """1 for a gain and -1 for a loss that the corrected test tells from 0, else 0."""
        return told(self.difference.mean, self.p_holm)


def told(mean: float, p: float | None) -> int:
    """The sign of a mean that a corrected test tells from 0, else 0."""
    if p is None or p >= LEVEL:
        return 0
    return 1 if mean > 0 else -1


def baseline_of(table: Table, method: str) -> str:
    """What a method is measured against: a tuned one against the tuned baseline where there is one, every other one against the
    table's baseline."""
    tuned = tuned_label(table.baseline)
    return tuned if is_tuned_label(method) and tuned in table.methods else table.baseline


def differences_by_seed(table: Table, pair: str, method: str) -> dict[int, float]:
    """Of a cell from its baseline, see :func:`kdbench.bench.comparison.cell.paired_differences`."""
    return paired_differences(table.cells.get((pair, method)), table.cells.get((pair, baseline_of(table, method))))


def seed_tests(table: Table) -> list[SeedTest]:
    """Every cell of a table against its baseline, pair by pair in the table's order; cells without a paired seed are left out.

    Raises:
        KdbenchError: this is no table.
    """
    check_table(table)
    found = []
    for pair in table.pairs:
        for method in table.methods:
            values = list(differences_by_seed(table, pair, method).values())
            if values and method != baseline_of(table, method):
                cell = table.cells[pair, method]
                found.append(SeedTest(pair, method, cell, summarise(values), paired_t(values)))
    corrected = holm([test.p for test in found])
    return [replace(test, p_holm=p) for test, p in zip(found, corrected)]


def paired_t(differences: Sequence[float]) -> float | None:
    """Two-sided p of a paired t test (Student, 1908), None for fewer than :data:`MIN_SEEDS` differences. Differences without any
    spread are told from 0 unless they are 0."""
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < MIN_SEEDS:
        return None
    if np.ptp(values) == 0:
        return 0.0 if values[0] else 1.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)
