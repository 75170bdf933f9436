"""Cells of many seeds against the student alone: paired differences, and a t test of each, corrected over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from kdbench.bench.comparison.cell import Cell, paired_differences
from kdbench.bench.comparison.statistics import Summary, holm, summarise
from kdbench.bench.comparison.table import Table, check_table
from kdbench.bench.results.tuning import is_tuned_label, tuned_label

#: fewest seeds of which a test is made: with fewer it misses what tables of distillation differ by (docs/statistics.md)
MIN_SEEDS = 6
LEVEL = 0.05


_T = TypeVar("_T", bound="Tested")


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A mean of differences that are paired by seed, and its test.

    Attributes:
        difference: in percentage points.
        p: of a two-sided paired t test; None for fewer than :data:`MIN_SEEDS` seeds.
        p_holm: corrected by Holm's procedure over everything that was tested with it and has a p (:func:`corrected`).
    """

    difference: Summary
    p: float | None = None
    p_holm: float | None = None

    @classmethod
    def of(cls: type[_T], differences: Sequence[float], **facts: Any) -> _T:
        """Mean and test of these differences, by seed; ``facts`` are the other fields."""
        return cls(difference=summarise(differences), p=paired_t(differences), **facts)

    @property
    def sign(self) -> int:
        """1 where the corrected test tells the mean from 0 and it is above, -1 where it is below, else 0."""
        if self.p_holm is None or self.p_holm >= LEVEL:
            return 0
        return 1 if self.difference.mean > 0 else -1


def corrected(found: Sequence[_T]) -> list[_T]:
    """With ``p_holm``, over all of them."""
    return [replace(one, p_holm=p) for one, p in zip(found, holm([one.p for one in found]))]


@dataclass(frozen=True, kw_only=True)
class SeedTest(Tested):
    """A method on one pair against its baseline.

    Attributes:
        pair, method: labels of the cell.
        cell: its accuracies.
    """

    pair: str
    method: str
    cell: Cell


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
                found.append(SeedTest.of(values, pair=pair, method=method, cell=cell))
    return corrected(found)


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
