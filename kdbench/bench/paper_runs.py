"""This project's own results by cell of the published tables."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.bench.paper import Key, paper_dataset, paper_method, paper_network
from kdbench.bench.recipe import Declared, differences, recipe_of_run
from kdbench.bench.results import check_select, load_results, timing_of
from kdbench.bench.state import GRID_FILE, read_grid_record
from kdbench.errors import KdbenchError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ours:
    """Own figures of a cell.

    Attributes:
        values: by seed; of the teacher itself, by its weights.
        deviations: how the runs' recipe differs from the declared one; empty where it does not.
        checked: whether there was a declared recipe to compare with.
    """

    values: dict[Any, float]
    deviations: tuple[str, ...] = ()
    checked: bool = True

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return math.fsum(self.values.values()) / self.n

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds (ddof 1); None for one seed."""
        if self.n < 2:
            return None
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values.values()) / (self.n - 1))

    def text(self) -> str:
        """``mean ± sd (n)``; ``n/a`` stands for the sd of a single seed."""
        spread = "n/a" if self.sd is None else f"{self.sd:.2f}"
        return f"{self.mean:.2f} ± {spread} ({self.n})"


class PaperRuns:
    """Finished runs below a folder, looked up by a table's keys.

    A run's method is its grid's label (``HCD(n=2)``), or its own method's name; ``HCD`` stands for ``HCD(n=4)``, its default.

    Args:
        folder: any folder above finished runs.
        select: ``last``, ``best`` or ``selected``; never mixed in one table.

    Raises:
        KdbenchError: no such folder, or no such selection.
    """

    def __init__(self, folder: str | Path, select: str = "last") -> None:
        self.select = select
        check_select(select)
        frame = load_results(folder)
        self.skipped: list[str] = frame.attrs["skipped"]
        self.unfinished: int = frame.attrs["unfinished"]
        self.count = len(frame)
        self._cells: dict[tuple[str, str, str, str], list[Any]] = {}
        self._teachers: dict[tuple[str, str], dict[str, tuple[float, float | None]]] = {}
        labels = _grid_labels(Path(folder))
        network, dataset = _cached(paper_network), _cached(paper_dataset)
        rows: Any = frame.itertuples(index=False)
        for row in rows:
            place = (dataset(row.dataset), network(row.teacher) if row.teacher else "", network(row.student))
            for label in labels.get(str(row.run_id), {row.method}):
                self._cells.setdefault((*place, paper_method(label)), []).append(row)
            if row.teacher and row.teacher_top1 is not None and not pd.isna(row.teacher_top1):
                self._teachers.setdefault(place[:2], {})[str(row.teacher_sha256)] = (float(row.teacher_top1), None)

    def find(self, key: Key, declared: Declared | None = None) -> Ours | None:
        """Own figures of a cell; None where nothing was run.

        Where some runs keep the declared recipe, the others of that cell are left out.

        Raises:
            KdbenchError: a seed stands there twice, under recipes neither of which is the declared one.
        """
        if key.method == "Teacher":
            return self._teacher(key)
        rows = self._rows(key)
        if not rows:
            return None
        wanted = declared.find(key) if declared is not None else None
        deviations: dict[str, tuple[str, ...]] = {}
        if wanted is not None:
            for row in rows:
                own = recipe_of_run(row.folder)
                found = ("its configuration cannot be read",) if own is None else tuple(differences(own, wanted))
                deviations[row.folder] = found
            faithful = [row for row in rows if not deviations[row.folder]]
            rows = faithful or rows
        values: dict[Any, float] = {}
        for row in rows:
            value = self._value(row, key.metric)
            if value is None:
                continue
            if row.seed in values:
                raise KdbenchError(
                    f"Table {key.table}: {key.teacher} -> {key.student} / {key.method} / seed {row.seed} was run under several "
                    f"configurations ({row.folder} is one); render the folder of one grid"
                )
            values[row.seed] = value
        if not values:
            return None
        told = dict.fromkeys(line for row in rows for line in deviations.get(row.folder, ()))
        return Ours(values, tuple(told), wanted is not None)

    def _rows(self, key: Key) -> list[Any]:
        teacher = "" if key.method == "Scratch" else key.teacher
        place = (key.dataset, teacher, key.student)
        rows = self._cells.get((*place, key.method), [])
        if not rows and key.method == "HCD(n=4)":
            rows = self._cells.get((*place, "HCD"), [])
        return list({row.run_id: row for row in rows}.values())

    def _teacher(self, key: Key) -> Ours | None:
        found = self._teachers.get((key.dataset, key.teacher))
        if not found or key.metric != "top1":
            return None
        return Ours({sha: top1 for sha, (top1, _) in found.items()}, checked=False)

    def _value(self, row: Any, metric: str) -> float | None:
        if metric == "seconds_per_epoch":
            return timing_of(row.folder).get("seconds_per_epoch")
        if metric == "top5" and self.select == "selected":
            return None  # result.json keeps only the top-1 of that epoch
        value = getattr(row, f"{metric}_{self.select}")
        return None if value is None or pd.isna(value) else float(value)


def _grid_labels(folder: Path) -> dict[str, set[str]]:
    """Labels of runs in the grids below (or right at) a folder, by run id; broken records are named and skipped."""
    labels: dict[str, set[str]] = {}
    for file in sorted(folder.rglob(GRID_FILE)):
        try:
            for cell in (read_grid_record(file.parent) or {"cells": []})["cells"]:
                if cell["run"]:
                    labels.setdefault(cell["run"], set()).add(cell["method"])
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("%s is no grid's record and is skipped", file)
    return labels


def _cached(fn: Any) -> Any:
    seen: dict[str, str] = {}

    def call(name: str) -> str:
        if name not in seen:
            seen[name] = fn(name)
        return seen[name]

    return call
