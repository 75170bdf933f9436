"""A study as text: all of its sections, or a page of yours in which they stand between marks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from kdbench.bench.comparison.study.cells import cells, cost
from kdbench.bench.comparison.study.changes import changes, tuning
from kdbench.bench.comparison.study.families import pair_families
from kdbench.bench.comparison.study.gains import family_table, gains
from kdbench.bench.comparison.study.sizes import larger_students
from kdbench.bench.comparison.study.stability import luck, rank_table
from kdbench.bench.comparison.study.study import Study
from kdbench.bench.comparison.study.summary import summary
from kdbench.bench.comparison.table import build_table
from kdbench.bench.results.labels import load_grid_results
from kdbench.bench.results.rows_file import read_csv
from kdbench.bench.results.tuning import is_tuned_label
from kdbench.errors import KdbenchError, did_you_mean
from kdbench.escape import markdown

#: lines of a page
_BEGIN = re.compile(r"<!--\s*study:\s*([\w-]+)\s*-->")
_END = re.compile(r"<!--\s*/study\s*-->")


def sections(study: Study) -> dict[str, Callable[[], str]]:
    """What there is, by name; each gives Markdown."""
    return {
        "summary": lambda: summary(study),
        "gains": lambda: gains(study, study.published),
        "gains-tuned": lambda: gains(study, study.tuned),
        "families": lambda: family_table(study, tuned=False),
        "families-tuned": lambda: family_table(study, tuned=True),
        "luck": lambda: luck(study),
        "tuning": lambda: tuning(study),
        "changes": lambda: changes(study),
        "ranks": lambda: rank_table(study, study.published),
        "ranks-tuned": lambda: rank_table(study, study.tuned),
        "cost": lambda: cost(study),
        "cells": lambda: cells(study),
    }


def open_study(
    results: str | Path, *, select: str = "last", baseline: str = "", costs: str | Path = "", few: int = 3
) -> Study:
    """The study of a results folder.

    Args:
        results: a grid's folder, or the CSV file of its rows.
        select: see :func:`kdbench.bench.comparison.table.build_table`.
        baseline: label of the student alone; empty = the first whose method is Vanilla, and where none is the table's own.
        costs: CSV file with the columns ``pair``, ``label`` and ``step``; see :class:`kdbench.bench.comparison.study.study.Study`.
        few: seeds of a usual table.

    Raises:
        KdbenchError: no results there, an unknown baseline, or a file of costs that is none.
    """
    frame, record = load_grid_results(results)
    if not baseline:  # a grid's own baseline is often KD
        alone = set(frame.label[frame.method == "Vanilla"])
        baseline = next((m for m in record["methods"] if m in alone and not is_tuned_label(m)), "")
    table = build_table(results, select=select, baseline=baseline)
    timed = read_costs(costs) if costs else None
    if timed is not None and not set(table.cells) & set(zip(timed.pair, timed.label)):
        raise KdbenchError(f"{costs}: no pair and label of it is one of {results}")
    return Study(table, pair_families(frame), timed, larger=larger_students(frame, table), few=few)


def read_costs(file: str | Path) -> pd.DataFrame:
    """Columns ``pair``, ``label``, ``step`` (the time of a training step as a multiple of that of the student alone).

    Raises:
        KdbenchError: it cannot be read, lacks a column, or holds what is no positive number.
    """
    frame = read_csv(file, "costs")
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
    twice = frame.duplicated(["pair", "label"])
    if twice.any():
        raise KdbenchError(f"{file}, line {int(twice.to_numpy().argmax()) + 2}: pair and label stand twice")
    return frame.assign(step=steps)[["pair", "label", "step"]]


def fill(page: str, study: Study) -> str:
    """A page with every section that it names, anew: what stands between a line ``<!-- study: NAME -->`` and the next
    ``<!-- /study -->``. Lines within a block of code are none.

    Raises:
        KdbenchError: the page names none, or one that there is not, or a mark has no partner.
    """
    known = sections(study)
    made: list[str] = []
    opened, fenced, count = (0, ""), False, 0
    for number, line in enumerate(page.splitlines(keepends=True), start=1):
        text, end = line.strip(), line[len(line.rstrip("\r\n")) :] or "\n"
        fenced ^= text.startswith("```") and not opened[0]
        begins, ends = (None, None) if fenced else (_BEGIN.fullmatch(text), _END.fullmatch(text))
        if begins and opened[0]:
            raise KdbenchError(f"line {number}: {text} before the <!-- /study --> of line {opened[0]}")
        if ends and not opened[0]:
            raise KdbenchError(f"line {number}: {text} without <!-- study: NAME --> before it")
        if begins:
            name = begins[1]
            if name not in known:
                raise KdbenchError(f"line {number}: no section {name!r}{did_you_mean(name, known)}: {', '.join(known)}")
            opened, count = (number, name), count + 1
            made.append(line)
        elif ends:
            made.append(end.join(["", *known[opened[1]]().split("\n"), "", line]))
            opened = (0, "")
        elif not opened[0]:
            made.append(line)
    if opened[0]:
        raise KdbenchError(f"line {opened[0]}: <!-- study: {opened[1]} --> without <!-- /study --> behind it")
    if not count:
        raise KdbenchError(
            f"the page names no section: <!-- study: NAME --> ... <!-- /study -->, of {', '.join(known)}"
        )
    return "".join(made)


def whole(study: Study) -> str:
    """All sections that say something, one after the other."""
    titles = {
        "summary": f"What the seeds tell from {markdown(study.table.baseline)}",
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
            "changes": "What tuning changed",
        }
    titles |= {"cost": "Accuracy and cost"} if study.costs else {}
    made = sections(study)
    return "\n\n".join(f"## {title}\n\n{made[name]()}" for name, title in titles.items()) + "\n"
