"""The facts of a comparison with many seeds, of which its sections are made."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from kdbench.bench.comparison.seeds import seed_tests
from kdbench.bench.comparison.study.families import Family
from kdbench.bench.comparison.study.sizes import MARK
from kdbench.bench.comparison.table import Table
from kdbench.bench.results.tuning import is_tuned_label
from kdbench.escape import markdown


class Study:
    """A table, its tests, and what is known of its pairs.

    Args:
        table: with many seeds.
        families: of its pairs, by :func:`kdbench.bench.comparison.study.families.pair_families`.
        costs: columns ``pair``, ``label`` and ``step``: the time of a training step as a multiple of the student's alone.
        larger: of :func:`kdbench.bench.comparison.study.sizes.larger_students`.
        few: seeds of a usual table.

    Attributes:
        tests: of every cell against the student alone, by pair and label.
        published, tuned: the table's labels of each kind.
    """

    def __init__(
        self,
        table: Table,
        families: Mapping[str, Family],
        costs: pd.DataFrame | None = None,
        *,
        larger: Mapping[tuple[str, str], float] | None = None,
        few: int = 3,
    ) -> None:
        self.table, self.families, self.few = table, families, few
        self.larger = dict(larger or {})
        self.costs = {} if costs is None else {(str(r.pair), str(r.label)): float(r.step) for r in costs.itertuples()}
        self.tests = {(test.pair, test.method): test for test in seed_tests(table)}
        self.published = [m for m in table.methods if not is_tuned_label(m)]
        self.tuned = [m for m in table.methods if is_tuned_label(m)]

    def halves(self) -> list[tuple[list[str], str]]:
        """Labels of both kinds, each with the words for it; a kind that the table does not have has no labels."""
        return [(self.published, "as published"), (self.tuned, "tuned")]

    def name(self, method: str, pair: str = "") -> str:
        """As it is shown, with a mark where it deploys more than the student alone on this pair (empty: on any)."""
        marked = (pair, method) in self.larger if pair else any(method == label for _, label in self.larger)
        return f"{markdown(method)} {MARK}" if marked else markdown(method)

    def frame(self, methods: list[str]) -> pd.DataFrame:
        """Means by pair of those methods that every pair has, for ranks."""
        cells = self.table.cells
        whole = [m for m in methods if all((pair, m) in cells for pair in self.table.pairs)]
        rows = {pair: {m: cells[pair, m].mean for m in whole} for pair in self.table.pairs}
        return pd.DataFrame.from_dict(rows, orient="index", columns=whole)

    def points(self, pair: str) -> dict[str, tuple[float, float]]:
        """Step time and mean top-1 of the methods as published, by label, of those that were timed."""
        cells = self.table.cells
        own = [m for m in self.published if (pair, m) in self.costs and (pair, m) in cells]
        return {m: (self.costs[pair, m], cells[pair, m].mean) for m in own}
