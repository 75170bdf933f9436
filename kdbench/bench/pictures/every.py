"""All pictures of one results folder."""

from __future__ import annotations

import logging
from pathlib import Path

from kdbench.bench.comparison.report import ranks
from kdbench.bench.comparison.table import Table
from kdbench.bench.pictures.accuracy import plot_table
from kdbench.bench.pictures.cost import plot_cost
from kdbench.bench.pictures.curves import plot_curves
from kdbench.bench.pictures.differences import plot_differences
from kdbench.bench.pictures.ranks import plot_ranks
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
    if form not in FORMATS:
        raise KdbenchError(f"pictures are {', '.join(FORMATS)}, not {form!r}{did_you_mean(form, FORMATS)}")
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
