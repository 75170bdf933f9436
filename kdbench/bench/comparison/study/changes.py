"""Sections ``tuning`` and ``changes``: what tuning changed."""

from __future__ import annotations

from collections import Counter
from statistics import median

from kdbench.bench.comparison.seeds import LEVEL
from kdbench.bench.comparison.study.study import Study
from kdbench.bench.comparison.study.text import NONE, grid, interval, sure
from kdbench.bench.comparison.study.tuning import Change, rankings_agree, tuning_changes
from kdbench.escape import markdown

_NOTHING = "Nothing was tuned yet."


def tuning(study: Study) -> str:
    """A row a pair: how many methods are better with tuned values than with published ones, and whether the rankings agree."""
    found, agree = tuning_changes(study.table), rankings_agree(study.table)
    rows = []
    for pair in study.table.pairs:
        own = [one for one in found if one.pair == pair]
        if not own:
            continue
        signs = Counter(one.sign for one in own if one.p is not None)
        unchanged, middle = sum(one.unchanged for one in own), median(one.difference.mean for one in own)
        tau = f"{agree[pair][0]:.2f}" if pair in agree else NONE
        rows.append([markdown(pair), len(own), signs[1], signs[0], signs[-1], unchanged, f"{middle:+.2f}", tau])
    if not rows:
        return _NOTHING
    heads = ["pair", "methods", "surely better tuned", "not told apart", "surely worse tuned", "unchanged"]
    heads += ["median change", "Kendall's tau"]
    words = (
        f"*Surely*: a two-sided paired t test over the seeds with p < {LEVEL:g} after Holm's correction over all {len(found)} "
        "changes. The student alone counts as a method. Unchanged: every seed has the accuracy that it had, as where the "
        "published values were chosen. Kendall's tau is between the means as published and as tuned."
    )
    return f"{grid(rows, heads)}\n\n{words}"


def changes(study: Study) -> str:
    """A row a method, by its mean over the pairs; a column a pair: accuracy as tuned less accuracy as published, in bold
    where the test is sure."""
    found = {(one.pair, one.method): one for one in tuning_changes(study.table)}
    if not found:
        return _NOTHING
    pairs = [pair for pair in study.table.pairs if any(place[0] == pair for place in found)]
    means = {}
    for method in study.published:
        own = [found[pair, method].difference.mean for pair in pairs if (pair, method) in found]
        if own:
            means[method] = sum(own) / len(own)
    rows = [
        [markdown(m), *(_change(found[pair, m]) if (pair, m) in found else NONE for pair in pairs)]
        for m in sorted(means, key=lambda m: -means[m])
    ]
    return grid(rows, ["method", *map(markdown, pairs)])


def _change(one: Change | None) -> str:
    if one is None:
        return NONE
    return "unchanged" if one.unchanged else sure(interval(one.difference), one.sign)
