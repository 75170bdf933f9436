"""What many seeds say of a comparison, section by section, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from tabulate import tabulate

from kdbench.bench.comparison.families import Family, Gap, family_gaps
from kdbench.bench.comparison.frontier import frontier
from kdbench.bench.comparison.luck import crowned, rankings_agree
from kdbench.bench.comparison.seeds import LEVEL, MIN_SEEDS, baseline_of, seed_tests
from kdbench.bench.comparison.sizes import MARK, told_larger
from kdbench.bench.comparison.statistics import Summary, friedman
from kdbench.bench.comparison.table import Table
from kdbench.bench.results.tuning import is_tuned_label, tuned_label
from kdbench.errors import KdbenchError
from kdbench.escape import markdown

_NONE = "–"


class Study:
    """The sections of one table.

    Args:
        table: with many seeds.
        families: of its pairs, by :func:`kdbench.bench.comparison.families.pair_families`.
        costs: columns ``pair``, ``label`` and ``step``: the time of a training step as a multiple of the student's alone.
        larger: of :func:`kdbench.bench.comparison.sizes.larger_students`.
        few: seeds of a usual table.
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

    def sections(self) -> dict[str, Callable[[], str]]:
        """What there is, by name; each gives Markdown."""
        return {
            "summary": self.summary,
            "gains": lambda: self.gains(self.published),
            "gains-tuned": lambda: self.gains(self.tuned),
            "families": lambda: self.family_table(tuned=False),
            "families-tuned": lambda: self.family_table(tuned=True),
            "luck": self.luck,
            "tuning": self.tuning,
            "ranks": lambda: self.rank_table(self.published),
            "ranks-tuned": lambda: self.rank_table(self.tuned),
            "cost": self.cost,
            "cells": self.cells,
        }

    def summary(self) -> str:
        """A row a pair: teacher, student alone, what the tests tell from it, and the best method."""
        rows, marked = [], set()
        untested = any(test.p is None for test in self.tests.values())
        for methods, how in ((self.published, "as published"), (self.tuned, "tuned")):
            for pair in self.table.pairs:
                own = [m for m in methods if (pair, m) in self.table.cells]
                if not own:
                    continue
                tests = [self.tests[pair, m] for m in own if (pair, m) in self.tests]
                alone = self.table.cells.get((pair, baseline_of(self.table, own[0])))
                signs = Counter(test.sign for test in tests if test.p is not None)
                best = max(tests, key=lambda test: test.difference.mean, default=None)
                marked |= {(pair, best.method)} if best is not None else set()
                teacher = self.table.teachers.get(pair)
                rows.append(
                    [
                        markdown(pair),
                        *([how] if self.tuned else []),
                        _NONE if teacher is None else f"{teacher:.2f}",
                        "missing" if alone is None else alone.text(),
                        len(tests),
                        signs[1],
                        signs[0],
                        signs[-1],
                        *([len(tests) - signs.total()] if untested else []),
                        _NONE if best is None else f"{self._name(best.method, pair)} {_interval(best.difference)}",
                    ]
                )
        heads = [
            "pair",
            *(["values"] if self.tuned else []),
            "teacher",
            "student alone" if self.table.baseline == "Vanilla" else markdown(self.table.baseline),
            "methods",
            "surely better",
            "not told apart",
            "surely worse",
            *(["not tested"] if untested else []),
            "largest mean difference",
        ]
        tested = [test for test in self.tests.values() if test.p is not None]
        words = (
            f"*Surely* means a two-sided paired t test over the seeds with p < {LEVEL:g} after Holm's correction over all "
            f"{len(tested)} cells with at least {MIN_SEEDS} seeds. The largest of many means is too large on average."
        )
        if self.tuned and tuned_label(self.table.baseline) not in self.tuned:
            words += f" {markdown(self.table.baseline)} was not tuned: tuned methods are measured against it as it is."
        larger = {place: multiple for place, multiple in self.larger.items() if place in marked}
        return "\n\n".join(filter(None, [_grid(rows, heads), words, told_larger(larger)]))

    def _name(self, method: str, pair: str = "") -> str:
        """As it is shown, with a mark where it deploys more than the student alone on this pair (empty: on any)."""
        marked = (pair, method) in self.larger if pair else any(method == label for _, label in self.larger)
        return f"{markdown(method)} {MARK}" if marked else markdown(method)

    def gains(self, methods: Sequence[str]) -> str:
        """A row a method, by its mean over the pairs; a column a pair: difference, interval, in bold where the test is sure."""
        pairs, failed = self.table.pairs, self.table.failed
        means = {m: [self.tests[p, m].difference.mean for p in pairs if (p, m) in self.tests] for m in methods}
        shown = [m for m in methods if means[m] or any((p, m) in failed for p in pairs)]
        shown.sort(key=lambda m: -sum(means[m]) / len(means[m]) if means[m] else float("inf"))
        rows = [[self._name(m), *(self._gain(pair, m) for pair in self.table.pairs)] for m in shown]
        grid = _grid(rows, ["method", *map(markdown, self.table.pairs)])
        larger = {place: multiple for place, multiple in self.larger.items() if place[1] in shown}
        return "\n\n".join(filter(None, [grid, self._seeds(shown), told_larger(larger)]))

    def _seeds(self, methods: Sequence[str]) -> str:
        """How many seeds the differences are of."""
        counts = {
            (p, m): self.tests[p, m].difference.n for p in self.table.pairs for m in methods if (p, m) in self.tests
        }
        most = max(counts.values(), default=0)
        fewer = [f"{markdown(p)} / {markdown(m)} {n}" for (p, m), n in counts.items() if n < most]
        return f"Seeds of each difference: {most}{'; fewer in ' + ', '.join(fewer) if fewer else ''}."

    def family_table(self, *, tuned: bool) -> str:
        """A row a method and student, by the gap."""
        gaps = [g for g in family_gaps(self.table, self.families) if is_tuned_label(g.method) == tuned]
        if not gaps:
            return "There are no two teachers of one student, one of its family and one of another."
        parts = []
        for student in dict.fromkeys(gap.student for gap in gaps):
            own = sorted((gap for gap in gaps if gap.student == student), key=lambda gap: gap.gap.mean)
            rows = [
                [markdown(g.method), _interval(g.same), _interval(g.other), _sure(_interval(g.gap), g.sign)]
                for g in own
            ]
            heads = ["method", "gain, same family", "gain, other families", "same - other"]
            parts.append(f"**{markdown(student)}** as the student: {_gap_counts(own)}\n\n{_grid(rows, heads)}")
        return "\n\n".join(parts)

    def luck(self) -> str:
        """A row a pair: who wins with all seeds, and how often with a few."""
        rows = []
        for methods, how in ((self.published, "as published"), (self.tuned, "tuned")):
            for one in crowned(self.table, methods, few=self.few):
                first = sorted(one.winners.items(), key=lambda item: -item[1])
                often = ", ".join(f"{markdown(m)} {100 * share / one.choices:.0f}%" for m, share in first[:3])
                rows.append(
                    [
                        markdown(one.pair),
                        *([how] if self.tuned else []),
                        f"{markdown(one.winner)} ({one.seeds} seeds)",
                        f"{100 * one.other:.0f}% of {one.choices}",
                        len(one.winners),
                        often,
                        one.worst_place,
                    ]
                )
        if not rows:
            return f"No pair has more than {self.few} seeds of two methods."
        heads = [
            "pair",
            *(["values"] if self.tuned else []),
            "best mean",
            f"another winner with {self.few} seed{'s' * (self.few != 1)}",
            "different winners",
            "most often",
            "lowest place of the best",
        ]
        return _grid(rows, heads)

    def tuning(self) -> str:
        """A row a pair: agreement of the rankings as published and as tuned."""
        found = rankings_agree(self.table)
        if not found:
            return "Nothing was tuned yet."
        rows = [[markdown(pair), count, f"{tau:.2f}"] for pair, (tau, count) in found.items()]
        return _grid(rows, ["pair", "methods", "Kendall's tau"])

    def rank_table(self, methods: Sequence[str]) -> str:
        """Average ranks with Friedman's test and Nemenyi's critical difference, of the methods that every pair has."""
        try:
            found = friedman(self.frame(methods))
        except KdbenchError as error:
            return f"No ranks: {markdown(error)}."
        order = sorted(found.ranks.items(), key=lambda item: item[1])
        listed = ", ".join(f"{markdown(m)} {rank:.1f}" for m, rank in order)
        return (
            f"Friedman: chi2({len(order) - 1}) = {found.statistic:.1f}, p = {found.p:.2g}, over {found.blocks} pairs and the "
            f"{len(order)} methods that all of them have. Nemenyi's critical difference at {found.alpha:g}: "
            f"{found.critical_difference:.1f} ranks. Average ranks: {listed}."
        )

    def frame(self, methods: Sequence[str]) -> pd.DataFrame:
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

    def cost(self) -> str:
        """A row a pair: the methods that no other one beats in both step time and accuracy, cheapest first."""
        if not self.costs:
            return "No step was timed."
        rows = []
        for pair in self.table.pairs:
            points = self.points(pair)
            chosen = [f"{markdown(m)} ({_multiple(points[m][0])}x, {points[m][1]:.2f})" for m in frontier(points)]
            if chosen:
                rows.append([markdown(pair), ", ".join(chosen)])
        return _grid(rows, ["pair", "not beaten in both: step time as a multiple of the student's alone, mean top-1"])

    def cells(self) -> str:
        """Every cell: mean, sd, n, difference, p; a table a pair."""
        parts = []
        for pair in self.table.pairs:
            own = [m for m in self.table.methods if (pair, m) in self.table.cells]
            own.sort(key=lambda m: -self.table.cells[pair, m].mean)
            rows = []
            for m in own:
                test, step = self.tests.get((pair, m)), self.costs.get((pair, m))
                rows.append(
                    [
                        markdown(m),
                        self.table.cells[pair, m].text(),
                        "" if test is None else _interval(test.difference),
                        *(["", ""] if test is None else [_p(test.p), _p(test.p_holm)]),
                        *([_NONE if step is None else _multiple(step)] if self.costs else []),
                    ]
                )
            heads = [
                "method",
                "top-1: mean ± sd (n)",
                "difference [95%]",
                "p",
                "p (Holm)",
                *(["step"] if self.costs else []),
            ]
            parts.append(f"### {markdown(pair)}\n\n{_grid(rows, heads)}")
        return "\n\n".join(parts)

    def _gain(self, pair: str, method: str) -> str:
        test = self.tests.get((pair, method))
        if test is None:
            if (pair, method) in self.table.cells:
                return f"no {markdown(baseline_of(self.table, method))}"
            return "failed" if (pair, method) in self.table.failed else _NONE
        return _sure(_interval(test.difference), test.sign)


def _gap_counts(gaps: Sequence[Gap]) -> str:
    signs = Counter(gap.sign for gap in gaps)
    return (
        f"of {len(gaps)} methods {signs[1]} surely gain less under other families, {signs[-1]} surely more, {signs[0]} are not "
        f"told apart (p < {LEVEL:g} after Holm's correction over all gaps)."
    )


def _interval(summary: Summary) -> str:
    low, high = summary.low, summary.high
    return f"{summary.mean:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")


def _sure(text: str, sign: int) -> str:
    return f"**{text}**" if sign else text


def _multiple(value: float) -> str:
    """In two digits: a time repeats no better."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _p(value: float | None) -> str:
    return _NONE if value is None else "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _grid(rows: Sequence[Sequence[object]], heads: Sequence[str]) -> str:
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)
