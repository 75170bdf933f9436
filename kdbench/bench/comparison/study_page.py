"""A study as text: all of its sections, or a page of yours in which they stand between marks."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from kdbench.bench.comparison.families import pair_families
from kdbench.bench.comparison.study import Study
from kdbench.bench.comparison.table import build_table
from kdbench.bench.results.labels import load_grid_results
from kdbench.errors import KdbenchError, did_you_mean

_MARK = re.compile(r"<!-- study: ([\w-]+) -->\n.*?<!-- /study -->\n?", re.S)


def open_study(
    results: str | Path, *, select: str = "last", baseline: str = "", costs: str | Path = "", few: int = 3
) -> Study:
    """The study of a results folder.

    Args:
        results: a grid's folder, or the CSV file of its rows.
        select, baseline: see :func:`kdbench.bench.comparison.table.build_table`.
        costs: CSV file with the columns ``pair``, ``label`` and ``step``; see :class:`kdbench.bench.comparison.study.Study`.
        few: seeds of a usual table.

    Raises:
        KdbenchError: no results there, an unknown baseline, or a file of costs that is none.
    """
    table = build_table(results, select=select, baseline=baseline)
    families = pair_families(load_grid_results(results)[0])
    return Study(table, families, read_costs(costs) if costs else None, few=few)


def read_costs(file: str | Path) -> pd.DataFrame:
    """Columns ``pair``, ``label``, ``step`` (the time of a training step as a multiple of that of the student alone).

    Raises:
        KdbenchError: it cannot be read, lacks a column, or holds what is no positive number.
    """
    try:
        frame = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise KdbenchError(f"{file}: no CSV of costs: {str(error).splitlines()[0]}") from None
    for name in ("pair", "label", "step"):
        if name not in frame:
            raise KdbenchError(
                f"{file}: no CSV of costs: without the column {name!r}{did_you_mean(name, map(str, frame.columns))}"
            )
    steps = pd.to_numeric(frame["step"], errors="coerce")
    wrong = ~((steps > 0) & (steps < float("inf")))
    if wrong.any():
        line = int(wrong.to_numpy().argmax())
        raise KdbenchError(f"{file}, line {line + 2}: step expects a number above 0, got {frame['step'][line]!r}")
    return frame.assign(step=steps)[["pair", "label", "step"]]


def fill(page: str, study: Study) -> str:
    """A page with every section that it names, anew: what stands between ``<!-- study: NAME -->`` and ``<!-- /study -->``.

    Raises:
        KdbenchError: the page names none, or one that there is not.
    """
    known = study.sections()
    named = _MARK.findall(page)
    if not named:
        raise KdbenchError(
            f"the page names no section: <!-- study: NAME --> ... <!-- /study -->, of {', '.join(known)}"
        )
    for name in named:
        if name not in known:
            raise KdbenchError(f"no section {name!r}{did_you_mean(name, known)}: {', '.join(known)}")
    return _MARK.sub(lambda m: f"<!-- study: {m[1]} -->\n\n{known[m[1]]()}\n\n<!-- /study -->\n", page)


def whole(study: Study) -> str:
    """All sections that say something, one after the other."""
    titles = {
        "summary": "What the seeds tell from the student alone",
        "gains": "Differences, paired by seed",
        "families": "Teachers of the same and of other families",
        "luck": f"What {study.few} seeds would have said",
        "ranks": "Over pairs",
    }
    if study.tuned:
        titles |= {
            "gains-tuned": "Differences, tuned",
            "families-tuned": "Families, tuned",
            "tuning": "Published and tuned",
        }
    titles |= {"cost": "Accuracy and cost"} if study.costs else {}
    sections = study.sections()
    return "\n\n".join(f"## {title}\n\n{sections[name]()}" for name, title in titles.items()) + "\n"
