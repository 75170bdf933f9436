"""This project's own results by cell of the published tables."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.bench.comparison.cell import Cell
from kdbench.bench.grids.grid_record import GRID_FILE, read_grid_record
from kdbench.bench.paper.declared import Declared
from kdbench.bench.paper.published import Key
from kdbench.bench.results.display_names import paper_dataset, paper_method, paper_network
from kdbench.bench.results.environments import environment_of
from kdbench.bench.results.frames import run_frame
from kdbench.bench.results.labels import results_of
from kdbench.bench.results.recipe import recipe_of_run
from kdbench.bench.results.run_files import read_metrics, timing_of
from kdbench.bench.results.select import check_select
from kdbench.errors import KdbenchError

log = logging.getLogger(__name__)
#: what stands where there is no own figure: nothing was run, all runs failed, or the runs did not record it
MISSING, FAILED, NOT_RECORDED = "missing", "failed", "not recorded"
_Place = tuple[str, str, str, str]


class OwnRuns:
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
        frame = run_frame(folder, environment=True)
        self.skipped: list[str] = frame.attrs["skipped"]
        self.unfinished: int = frame.attrs["unfinished"]
        self.count = len(frame)
        self._cells: dict[_Place, list[Any]] = {}
        self._teachers: dict[tuple[str, str], dict[str, Any]] = {}  # a row that learned from them, by weights
        labels, self._failed, unknown = _grids(Path(folder), frame)
        network, dataset = functools.cache(paper_network), functools.cache(paper_dataset)
        rows: Any = [row for row in frame.itertuples(index=False) if Path(str(row.folder)).parent not in unknown]
        self._runs = {str(row.run_id): row for row in rows}
        for row in rows:
            place = (dataset(row.dataset), network(row.teacher) if row.teacher else "", network(row.student))
            for label in labels.get(str(row.run_id), {row.method}):
                self._cells.setdefault((*place, paper_method(label)), []).append(row)
            if row.teacher and row.teacher_top1 is not None and not pd.isna(row.teacher_top1):
                self._teachers.setdefault(place[:2], {}).setdefault(str(row.teacher_sha256), row)

    def find(self, key: Key, declared: Declared | None = None) -> Cell | None:
        """Own figures of a cell; None where there are none, see :meth:`absence`.

        Where some runs keep the declared recipe, the others of that cell are left out.

        Raises:
            KdbenchError: a seed stands there twice, under recipes neither of which is the declared one.
        """
        if key.method == "Teacher":
            return self._teacher(key, declared)
        rows = self._rows(key)
        checked = declared is not None and declared.find(key) is not None
        deviations: dict[str, tuple[str, ...]] = {}
        if declared is not None and checked:
            for row in rows:
                run = recipe_of_run(row.folder)
                made = self._runs.get(run.teacher_run) if run is not None and row.teacher else None
                teacher = recipe_of_run(made.folder) if made is not None else None
                deviations[row.folder] = declared.deviations(key, run, teacher)
            rows = [row for row in rows if not deviations[row.folder]] or rows
        values: dict[Any, float] = {}
        by_seed: dict[Any, tuple[str, ...]] = {}
        teachers: dict[Any, str] = {}
        made_in: dict[Any, dict[str, Any]] = {}
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
            by_seed[row.seed] = deviations.get(row.folder, ())
            made_in[row.seed] = environment_of(row)
            if row.teacher_sha256:
                teachers[row.seed] = str(row.teacher_sha256)
        return Cell(values, teachers, by_seed, checked, made_in) if values else None

    def absence(self, key: Key) -> str:
        """Why a cell has no own figure."""
        if key.method == "Teacher":
            return NOT_RECORDED if (key.dataset, key.teacher) in self._teachers else MISSING
        if self._rows(key):
            return NOT_RECORDED
        return FAILED if _first(self._failed, key) is not None else MISSING

    def _rows(self, key: Key) -> list[Any]:
        return list({row.run_id: row for row in _first(self._cells, key) or []}.values())

    def _teacher(self, key: Key, declared: Declared | None) -> Cell | None:
        """The teacher's figures, as the runs that learned from it measured them; what they did not, as its own run did."""
        place = (key.dataset, key.teacher)
        values: dict[Any, float] = {}
        by_seed: dict[Any, tuple[str, ...]] = {}
        for sha, row in self._teachers.get(place, {}).items():
            run = recipe_of_run(row.folder)
            made = self._runs.get(run.teacher_run) if run is not None else None
            # the weights that a run exports are those of its last epoch
            top5 = made.top5_last if made is not None else None
            value = row.teacher_top1 if key.metric == "top1" else top5
            if value is None or pd.isna(value):
                continue
            values[sha] = float(value)
            own = recipe_of_run(made.folder) if made is not None else None
            if declared is not None and own is not None:
                by_seed[sha] = tuple(declared.teacher_deviations(place, own))
        return Cell(values, by_seed=by_seed) if values else None

    def _value(self, row: Any, metric: str) -> float | None:
        if metric == "seconds_per_epoch":
            return timing_of(row.folder).get("seconds_per_epoch")
        if metric == "top5" and self.select == "selected":
            return _selected_top5(row.folder)
        value = getattr(row, f"{metric}_{self.select}")
        return None if value is None or pd.isna(value) else float(value)


def _first(cells: dict[_Place, Any], key: Key) -> Any:
    place = (key.dataset, "" if key.method == "Scratch" else key.teacher, key.student)
    found = cells.get((*place, key.method))
    return cells.get((*place, "HCD")) if found is None and key.method == "HCD(n=4)" else found


def _selected_top5(folder: str) -> float | None:
    """Top-5 at the best validation epoch; ``result.json`` keeps only the top-1 of that epoch."""
    try:
        lines = [line for line in read_metrics(folder) if "val_top1" in line]
        return float(max(lines, key=lambda line: line["val_top1"])["top5"]) if lines else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _grids(folder: Path, frame: pd.DataFrame) -> tuple[dict[str, set[str]], dict[_Place, str], set[Path]]:
    """Of the grids below (or right at) a folder: labels of runs by run id, the cells of which a run failed, and the folders whose
    record is damaged, which are named: which cells their runs belong to is not known."""
    labels: dict[str, set[str]] = {}
    failed: dict[_Place, str] = {}
    unknown: set[Path] = set()
    results = results_of(frame)
    for file in sorted(folder.rglob(GRID_FILE)):
        try:
            record = read_grid_record(file.parent, results)
        except ValueError:
            log.warning("skipping %s: not a grid's record; the runs beside it are left out", file)
            unknown.add(file.parent)
            continue
        for cell in (record or {"cells": []})["cells"]:
            if cell["run"]:
                labels.setdefault(cell["run"], set()).add(cell["method"])
            elif cell["error"] and {"dataset", "network", "student"} <= set(cell):
                teacher = paper_network(cell["network"]) if cell["network"] else ""
                place = (paper_dataset(cell["dataset"]), teacher, paper_network(cell["student"]))
                failed[(*place, paper_method(cell["method"]))] = str(cell["error"])
    return labels, failed, unknown
