"""Published figures: Tables 1-7 of the HCD paper (Xu et al., AAAI 2026, arXiv 2511.10942), as ``published.csv`` beside this
file holds them. They are cited beside this project's own results and never take their place."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources

SOURCE = "Xu et al., Heterogeneous Complementary Distillation, AAAI 2026 (arXiv 2511.10942)"


@dataclass(frozen=True)
class Key:
    """What a cell of a published table is the figure of.

    Attributes:
        table: 1 to 7.
        dataset, teacher, student, method: as the paper writes them; ``Teacher`` and ``Scratch`` are methods, too.
        metric: ``top1``, ``top5`` (percent) or ``seconds_per_epoch``.
    """

    table: int
    dataset: str
    teacher: str
    student: str
    method: str
    metric: str = "top1"

    def of(self, method: str) -> Key:
        """The same place under another method."""
        return replace(self, method=method)


@dataclass(frozen=True)
class Figure:
    """A published figure. ``value`` is None where the paper prints none, or where the print cannot be read."""

    value: float | None
    note: str = ""


@functools.cache
def published() -> Mapping[Key, Figure]:
    """Every published figure; read once."""
    text = resources.files("kdbench.bench.paper").joinpath("published.csv").read_text(encoding="utf-8")
    figures = {}
    for row in csv.DictReader(text.splitlines()):
        key = Key(int(row["table"]), *(row[c] for c in ("dataset", "teacher", "student", "method", "metric")))
        figures[key] = Figure(float(row["value"]) if row["value"] else None, row["note"])
    return figures
