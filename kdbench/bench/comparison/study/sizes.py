"""Methods whose deployed student is larger than the student alone: what they gain is not the method's alone."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from kdbench.bench.comparison.seeds import baseline_of
from kdbench.bench.comparison.table import Table
from kdbench.escape import markdown

MARK = "†"
_LARGER = 1.01  # a method's temperature or scale is no other network


def larger_students(frame: pd.DataFrame, table: Table) -> dict[tuple[str, str], float]:
    """By pair and label, parameters of the deployed student as a multiple of those of the student alone, where they are more.

    Args:
        frame: of :func:`kdbench.bench.results.labels.load_grid_results`; its column ``student_params`` counts what is deployed.
        table: of the same results.
    """
    params = frame.dropna(subset=["student_params"]).groupby(["pair", "label"])["student_params"].max()
    found = {}
    for pair, label in table.cells:
        alone = pair, baseline_of(table, label)
        if (pair, label) in params.index and alone in params.index:
            multiple = float(params[pair, label]) / float(params[alone])
            if multiple > _LARGER:
                found[pair, label] = multiple
    return found


def told_larger(larger: Mapping[tuple[str, str], float]) -> str:
    """A line below a table whose methods have a :data:`MARK`; nothing where none has."""
    told: dict[str, list[str]] = {}
    for (pair, label), multiple in larger.items():
        told.setdefault(label, []).append(f"{multiple:.1f} ({markdown(pair)})")
    methods = "; ".join(f"{markdown(label)} {', '.join(which)}" for label, which in sorted(told.items()))
    return f"{MARK} deploys more than the student alone, parameters as a multiple of its: {methods}." if told else ""
