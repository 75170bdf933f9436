"""All pictures of one results folder."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from kdbench.bench.comparison.report import ranks
from kdbench.bench.comparison.statistics import friedman
from kdbench.bench.comparison.study.study import Study
from kdbench.bench.comparison.table import Table
from kdbench.bench.pictures.accuracy import plot_table
from kdbench.bench.pictures.cost import plot_cost
from kdbench.bench.pictures.curves import plot_curves
from kdbench.bench.pictures.differences import plot_differences
from kdbench.bench.pictures.gains import plot_gains
from kdbench.bench.pictures.ranks import plot_ranks
from kdbench.bench.pictures.steps import plot_steps
from kdbench.bench.results.rows_file import is_rows_file
from kdbench.errors import KdbenchError, did_you_mean

log = logging.getLogger(__name__)


#: formats of pictures, by the ending of their files
FORMATS = ("png", "pdf", "svg")


def plot_all(folder: str | Path, table: Table, out: str | Path, form: str = "png") -> list[Path]:
    """Write dots, cost, learning curves, losses, differences and, where there are enough pairs and methods, ranks.

    Args:
        folder: of the results, or the CSV file of their rows, which has no curves.
        table: of it.
        out: where to.
        form: one of :data:`FORMATS`.

    Returns:
        The files.

    Raises:
        KdbenchError: there is no such format.
    """
    check_format(form)
    names = ("accuracy", "cost", "curves", "losses", "differences", "ranks")
    accuracy, cost, curves, losses, differences, rank = files = [Path(out) / f"{name}.{form}" for name in names]
    plot_table(table, accuracy)
    plot_cost(folder, table, cost)
    if is_rows_file(folder):  # of its runs there are no curves
        files = [accuracy, cost, differences, rank]
    else:
        plot_curves(folder, table, curves)
        plot_curves(folder, table, losses, "test_loss")
    plot_differences(table, differences)
    try:
        plot_ranks(ranks(table), rank)
    except KdbenchError as error:
        log.info("no diagram of ranks: %s", error)
        files.remove(rank)
    return files


def plot_study(study: Study, out: str | Path, form: str = "png") -> list[Path]:
    """Write what each method gains as published, a picture a student (``gains-STUDENT``), and, where there are enough pairs and
    methods, the diagram of ranks; of tuned methods the same with ``-tuned``. With the costs of steps also ``steps``.

    Returns:
        The files.

    Raises:
        KdbenchError: there is no such format, or nothing to draw.
    """
    check_format(form)
    files = []
    table = study.table
    students: dict[str, list[str]] = {}
    for pair in table.pairs:
        students.setdefault(study.families[pair].student if pair in study.families else "all", []).append(pair)
    for methods, tail in ((study.published, ""), (study.tuned, "-tuned")):
        if not methods:
            continue
        for student, pairs in students.items():
            known = [pair for pair in pairs if any((pair, method) in study.tests for method in methods)]
            if known:
                files.append(Path(out) / f"gains-{_file_name(student)}{tail}.{form}")
                plot_gains(table, files[-1], pairs=known, methods=methods)
        try:
            found = friedman(study.frame(methods))
        except KdbenchError as error:
            log.info("no diagram of ranks: %s", error)
        else:
            files.append(Path(out) / f"ranks{tail}.{form}")
            plot_ranks(found, files[-1])
    if study.costs:
        files.append(Path(out) / f"steps.{form}")
        plot_steps(study, files[-1])
    return files


def _file_name(text: str) -> str:
    return re.sub(r"\W+", "_", text)


def check_format(form: str) -> None:
    """Refuse what is no format of pictures.

    Raises:
        KdbenchError: it is none of :data:`FORMATS`.
    """
    if form not in FORMATS:
        raise KdbenchError(f"pictures are {', '.join(FORMATS)}, not {form!r}{did_you_mean(form, FORMATS)}")
