"""What a comparison shows and what it does not: intervals, paired differences, ranks and tests over pairs.

Within a cell there are a few seeds: enough for an interval, too few for a test, and no p value is made of them. Tests are
over blocks (pairs of teacher and student, data sets), after Demšar, *Statistical Comparisons of Classifiers over Multiple
Data Sets*, JMLR 2006.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from kdbench.errors import KdbenchError

#: smallest number of blocks at which a two-sided signed-rank test can reach p < 0.05 (2 / 2^6 = 0.031)
MIN_BLOCKS_WILCOXON = 6


@dataclass(frozen=True)
class Summary:
    """Mean of n values (percent, or percentage points), sd (ddof 1) and a t interval; None where n < 2."""

    mean: float
    n: int
    sd: float | None = None
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """``mean [low, high] (n)``; without an interval for a single value."""
        interval = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.mean:.2f}{interval} ({self.n})"


@dataclass(frozen=True)
class Friedman:
    """Friedman's test and Nemenyi's critical difference over complete blocks.

    Attributes:
        ranks: average rank by method, 1 = best; ties share.
        blocks: number of complete blocks N.
        statistic, p: chi-square with k - 1 degrees of freedom.
        critical_difference: average ranks farther apart differ at level ``alpha``.
    """

    ranks: dict[str, float]
    blocks: int
    statistic: float
    p: float
    critical_difference: float
    alpha: float = 0.05

    def cliques(self) -> list[tuple[str, ...]]:
        """Largest groups of methods, best first, within which no pair differs by more than the critical difference."""
        order = sorted(self.ranks, key=lambda method: self.ranks[method])
        groups: list[tuple[str, ...]] = []
        for start, first in enumerate(order):
            group = [m for m in order[start:] if self.ranks[m] - self.ranks[first] <= self.critical_difference]
            if len(group) > 1 and not any(set(group) <= set(old) for old in groups):
                groups.append(tuple(group))
        return groups


@dataclass(frozen=True)
class PairTest:
    """Two methods over blocks: wins, ties and losses of ``first``, and the signed-rank test. p is None for too few blocks."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    mean_difference: float
    p: float | None = None
    p_holm: float | None = None


def summarise(values: Sequence[float], *, level: float = 0.95) -> Summary:
    """Mean, standard deviation (ddof 1) and two-sided t interval.

    Args:
        values: one a seed.
        level: coverage of the interval.

    Raises:
        KdbenchError: no values.
    """
    from scipy import stats  # here and below: it takes longer to import than a table to make

    if not len(values):
        raise KdbenchError("no values to summarise")
    numbers = np.asarray(values, dtype=np.float64)
    n, mean = len(numbers), float(numbers.mean())
    if n < 2:
        return Summary(mean, n)
    sd = float(numbers.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * sd / math.sqrt(n)
    return Summary(mean, n, sd, mean - half, mean + half)


def _check_frame(scores: object) -> None:
    if not isinstance(scores, pd.DataFrame) or not all(map(pd.api.types.is_numeric_dtype, scores.dtypes)):
        what = (
            "one with other columns" if isinstance(scores, pd.DataFrame) else f"{type(scores).__name__} {scores!r:.40}"
        )
        raise KdbenchError(f"expects a frame of scores, kdbench.scores(table), got {what}")


def friedman(scores: pd.DataFrame, *, alpha: float = 0.05) -> Friedman:
    """Average ranks and Friedman's test over the blocks in which every method has a score.

    Args:
        scores: blocks x methods, higher is better.
        alpha: level of the critical difference.

    Raises:
        KdbenchError: fewer than three methods or two complete blocks, or these are no scores.
    """
    from scipy import stats

    _check_frame(scores)
    complete = scores.dropna()
    blocks, methods = complete.shape
    if methods < 3 or blocks < 2:
        raise KdbenchError(
            f"Friedman's test needs at least 3 methods and 2 pairs with results for all of them; here are {methods} "
            f"method{'' if methods == 1 else 's'} and {blocks} such pair{'' if blocks == 1 else 's'} (of {len(scores)})"
        )
    ranks = complete.rank(axis=1, ascending=False).mean()
    if (complete.nunique(axis=1) == 1).all():
        statistic, p = 0.0, 1.0  # all scores tie: scipy divides by zero
    else:
        statistic, p = (float(v) for v in stats.friedmanchisquare(*(complete[m] for m in complete)))
    return Friedman(
        {str(m): float(r) for m, r in ranks.items()},
        blocks,
        statistic,
        p,
        critical_difference(methods, blocks, alpha),
        alpha,
    )


def critical_difference(methods: int, blocks: int, alpha: float = 0.05) -> float:
    """Nemenyi's ``q sqrt(k (k + 1) / (6 N))``, q from the studentised range with infinitely many degrees of freedom."""
    from scipy import stats

    q = float(stats.studentized_range.ppf(1 - alpha, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * blocks))


def pair_tests(scores: pd.DataFrame, *, baseline: str = "", decimals: int = 2) -> list[PairTest]:
    """Every two methods over the blocks that both have; p values corrected by Holm over the whole family.

    Args:
        scores: blocks x methods, higher is better.
        baseline: compare every method with this one only; empty = all pairs of methods.
        decimals: differences that vanish at so many decimals are ties.

    Raises:
        KdbenchError: the baseline is none of the methods, or these are no scores.
    """
    from scipy import stats

    _check_frame(scores)
    methods = [str(m) for m in scores.columns]
    if baseline and baseline not in methods:
        raise KdbenchError(f"baseline {baseline!r} is none of {', '.join(methods)}")
    pairs = [(m, baseline) for m in methods if m != baseline] if baseline else list(combinations(methods, 2))
    found = []
    for first, second in pairs:
        both = scores[[first, second]].dropna()
        difference = (both[first] - both[second]).round(decimals + 2)
        rounded = difference.round(decimals)
        wins, losses = int((rounded > 0).sum()), int((rounded < 0).sum())
        mean = float(difference.mean()) if len(both) else math.nan
        p = float(stats.wilcoxon(rounded).pvalue) if _testable(rounded) else None
        found.append(PairTest(first, second, wins, len(both) - wins - losses, losses, mean, p))
    corrected = holm([test.p for test in found])
    return [replace(test, p_holm=p) for test, p in zip(found, corrected)]


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction; None stays None and does not count."""
    order = sorted((p, place) for place, p in enumerate(values) if p is not None)
    result: list[float | None] = [None] * len(values)
    largest = 0.0
    for step, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - step)))
        result[place] = largest
    return result


def smallest_p(blocks: int, comparisons: int = 1) -> float:
    """The smallest Holm-corrected p that the two-sided signed-rank test can reach: ``comparisons * 2 / 2^blocks``, at most 1."""
    return min(1.0, comparisons * 2.0 / 2.0**blocks)


def blocks_needed(comparisons: int = 1, alpha: float = 0.05) -> int:
    """The smallest number of differing blocks at which :func:`smallest_p` is below ``alpha``."""
    blocks = 1
    while smallest_p(blocks, comparisons) >= alpha:
        blocks += 1
    return blocks


def _testable(differences: pd.Series) -> bool:
    return int((differences != 0).sum()) >= MIN_BLOCKS_WILCOXON
