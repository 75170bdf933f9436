"""All pictures of one results folder."""

from __future__ import annotations

import logging
from pathlib import Path

from kdbench.bench.comparison.report import ranks
from kdbench.bench.comparison.table import Table
from kdbench.bench.pictures.accuracy import plot_table
from kdbench.bench.pictures.cost import plot_cost
from kdbench.bench.pictures.curves import plot_curves
from kdbench.bench.pictures.ranks import plot_ranks
from kdbench.errors import KdbenchError

log = logging.getLogger(__name__)


def plot_all(folder: str | Path, table: Table, out: str | Path) -> list[Path]:
    """Write dots, cost, learning curves and, where there are enough pairs and methods, ranks; returns the files."""
    out = Path(out)
    files = [out / "accuracy.png", out / "cost.png", out / "curves.png"]
    plot_table(table, files[0])
    plot_cost(folder, table, files[1])
    plot_curves(folder, table, files[2])
    try:
        plot_ranks(ranks(table), out / "ranks.png")
        files.append(out / "ranks.png")
    except KdbenchError as error:
        log.info("no diagram of ranks: %s", error)
    return files
