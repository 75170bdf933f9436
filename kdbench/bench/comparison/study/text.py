"""How a study writes an interval, a p and a table."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from kdbench.bench.comparison.statistics import Summary

NONE = "–"


def interval(summary: Summary) -> str:
    """Mean and 95% interval with signs, in percentage points; the mean alone where there is no interval."""
    low, high = summary.low, summary.high
    return f"{summary.mean:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")


def sure(text: str, sign: int) -> str:
    """In bold where a corrected test holds (a sign that is not 0)."""
    return f"**{text}**" if sign else text


def multiple(value: float) -> str:
    """In two digits: a time repeats no better."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def p_value(value: float | None) -> str:
    """With four decimals, or that it is smaller."""
    return NONE if value is None else "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def grid(rows: Sequence[Sequence[object]], heads: Sequence[str]) -> str:
    """A Markdown table whose texts stay as they are."""
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)
