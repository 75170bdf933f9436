"""Sections ``gains`` and ``families``, of methods as published and tuned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kdbench.bench.comparison.seeds import LEVEL, baseline_of
from kdbench.bench.comparison.study.families import Gap, family_gaps
from kdbench.bench.comparison.study.sizes import told_larger
from kdbench.bench.comparison.study.study import Study
from kdbench.bench.comparison.study.text import NONE, grid, interval, sure
from kdbench.bench.results.tuning import is_tuned_label
from kdbench.escape import markdown


def gains(study: Study, methods: Sequence[str]) -> str:
    """A row a method, by its mean over the pairs; a column a pair: difference, interval, in bold where the test is sure. Pairs that
    have none of the methods are left out."""
    tests, failed = study.tests, study.table.failed
    pairs = [p for p in study.table.pairs if any((p, m) in study.table.cells or (p, m) in failed for m in methods)]
    means = {m: [tests[p, m].difference.mean for p in pairs if (p, m) in tests] for m in methods}
    shown = [m for m in methods if means[m] or any((p, m) in failed for p in pairs)]
    shown.sort(key=lambda m: -sum(means[m]) / len(means[m]) if means[m] else float("inf"))
    rows = [[study.name(m), *(_gain(study, pair, m) for pair in pairs)] for m in shown]
    table = grid(rows, ["method", *map(markdown, pairs)])
    larger = {place: multiple for place, multiple in study.larger.items() if place[1] in shown}
    return "\n\n".join(filter(None, [table, _seeds(study, shown), told_larger(larger)]))


def family_table(study: Study, *, tuned: bool) -> str:
    """A row a method and student, by the gap."""
    found = family_gaps(study.table, study.families)
    tested = sum(g.p is not None for g in found)
    gaps = [g for g in found if is_tuned_label(g.method) == tuned]
    if not gaps:
        return "There are no two teachers of one student, one of its family and one of another."
    parts = []
    for student in dict.fromkeys(gap.student for gap in gaps):
        own = sorted((gap for gap in gaps if gap.student == student), key=lambda gap: gap.difference.mean)
        rows = [
            [markdown(g.method), interval(g.same), interval(g.other), sure(interval(g.difference), g.sign)] for g in own
        ]
        heads = ["method", "gain, same family", "gain, other families", "same - other"]
        parts.append(f"**{markdown(student)}** as the student: {_gap_counts(own, tested)}\n\n{grid(rows, heads)}")
    return "\n\n".join(parts)


def _gain(study: Study, pair: str, method: str) -> str:
    test = study.tests.get((pair, method))
    if test is None:
        if (pair, method) in study.table.cells:
            return f"no {markdown(baseline_of(study.table, method))}"
        return "failed" if (pair, method) in study.table.failed else NONE
    return sure(interval(test.difference), test.sign)


def _seeds(study: Study, methods: Sequence[str]) -> str:
    """How many seeds the differences are of."""
    places = [(p, m) for p in study.table.pairs for m in methods if (p, m) in study.tests]
    counts = {place: study.tests[place].difference.n for place in places}
    most = max(counts.values(), default=0)
    fewer = [f"{markdown(p)} / {markdown(m)} {n}" for (p, m), n in counts.items() if n < most]
    return f"Seeds of each difference: {most}{'; fewer in ' + ', '.join(fewer) if fewer else ''}."


def _gap_counts(gaps: Sequence[Gap], tested: int) -> str:
    signs = Counter(gap.sign for gap in gaps)
    return (
        f"of {len(gaps)} methods {signs[1]} surely gain less under other families, {signs[-1]} surely more, {signs[0]} are not "
        f"told apart (p < {LEVEL:g} after Holm's correction over all {tested} gaps)."
    )
