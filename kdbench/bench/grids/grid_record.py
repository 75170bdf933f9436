"""``grid.json``: of what a grid consists, for tables and status; and which runs its cells and teachers really have.

Nothing here imports torch, so that ``kdbench grid --status`` answers at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.bench.grids.asked import asked_of_cell, contradiction, other_teacher
from kdbench.bench.grids.state import read_states
from kdbench.bench.grids.trials import TRIAL_KINDS, runs_of_trials, with_runs
from kdbench.engine.result import read_record as read_result
from kdbench.files import stored
from kdbench.records import is_name, is_text, list_of, mapping_of, or_none, read_record, set_aside, write_record

if TYPE_CHECKING:
    from kdbench.bench.grids.grid import Grid
    from kdbench.bench.grids.tasks import Task

log = logging.getLogger(__name__)
GRID_FILE = "grid.json"
#: what a run's ``result.json`` says, by the run's name; None where there is no result
Results = Callable[[str], Mapping[str, Any] | None]
_TEXTS, _NAMES = list_of(is_text), mapping_of(is_text)
_KINDS = {
    "name": is_text,
    "pairs": _TEXTS,
    "methods": _TEXTS,
    "baseline": is_text,
    "cells": list_of(lambda cell: isinstance(cell, dict)),
}
_MORE = {
    "teachers": _NAMES,
    "trained": mapping_of(is_name),
    "weights": _NAMES,
    **TRIAL_KINDS,
}
_CELL = {"pair": is_text, "method": is_text}
_CELL_MORE = {
    "seed": lambda value: isinstance(value, int),
    "run": or_none(is_name),
    "error": or_none(is_text),
    **dict.fromkeys(("key", "teacher", "student", "dataset", "network", "type"), is_text),
}


def compose(
    grid: Grid, tasks: Sequence[Task], runs: Mapping[int, str], failed: Mapping[str, str], weights: Mapping[str, str]
) -> dict[str, Any]:
    """``grid.json`` of a grid: order and labels of rows and columns, keys of the state, and what has become of its runs. Of a grid
    that is tuned also ``sweep``, what each method's trials tried and what was chosen, and ``trials``, the runs of trials by key.

    Args:
        grid: resolved.
        tasks: its runs.
        runs: names of those that are done, by the task's number.
        failed: reasons of those that failed, by the task's label.
        weights: of teachers that are not trained here.
    """
    cells = []
    for number, task in enumerate(tasks):
        for cell in task.cells:
            entry = {"pair": cell.pair, "method": cell.method, "seed": cell.seed, "teacher": cell.teacher}
            entry |= {"type": cell.cfg.DISTILLER.TYPE, "student": cell.student, "dataset": cell.cfg.DATASET.TYPE}
            entry |= {"network": grid.teachers[cell.teacher].network if cell.teacher else ""}
            cells.append({**entry, "key": task.key, "run": runs.get(number), "error": failed.get(task.label, "")})
    for cell, error in grid.open:
        cells.append({"pair": cell.pair, "method": cell.method, "seed": cell.seed, "error": error})
    own = {number: task for number, task in enumerate(tasks) if task.trains}
    return {
        "name": grid.name,
        "pairs": grid.pairs,
        "methods": grid.methods,
        "baseline": grid.baseline,
        "teachers": {task.trains: task.key for task in own.values()},
        "trained": {task.trains: runs[number] for number, task in own.items() if number in runs},
        "weights": weights,
        "cells": cells,
        **grid.tuning,
    }


def read_grid_record(
    folder: str | Path, results: Results | None = None, states: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any] | None:
    """``grid.json`` with the runs and errors of its cells (``run``, ``error``) and the runs of its teachers (``trained``) filled in
    from the state; None where there is none. A run stands there only if its own result is what the cell asks for.

    Args:
        folder: the grid's.
        results: of the runs below; None reads the results that are asked for.
        states: from :func:`kdbench.bench.grids.state.read_states`; None reads them.

    Raises:
        ValueError: it is damaged.
    """
    folder = Path(folder)
    if not (folder / GRID_FILE).is_file():
        return None
    record = _read(folder / GRID_FILE)
    states = read_states(folder) if states is None else states
    look = reader_of(folder) if results is None else results
    found = {name: states.get(key, {}).get("run") or "" for name, key in record["teachers"].items()}
    found = {name: run or record["trained"].get(name, "") for name, run in found.items()}
    record["trained"] = {name: run for name, run in found.items() if run and look(run) is not None}
    hashes = _hashes(record, look)
    told: set[str] = set()
    for cell in record["cells"]:
        state = states.get(cell["key"], {})
        cell["run"] = next(
            (run for run in (cell["run"], state.get("run")) if run and _is_of(cell, run, look(run), hashes, told)), None
        )
        cell["error"] = "" if cell["run"] else cell["error"] or state.get("error", "")
    return record


def earlier_record(folder: str | Path) -> dict[str, Any]:
    """What :func:`read_grid_record` gives to a command that is to write a record of its own: empty where there is none, or where it
    is damaged, which :func:`write_grid_record` says."""
    try:
        return read_grid_record(folder) or {}
    except ValueError:
        return {}


def read_trial_runs(folder: str | Path) -> dict[str, tuple[str, int]]:
    """The runs of a grid's folder that are trials and stand in no cell: the label of their method, and the trial's number; of a
    method that the grid no longer tunes an empty label and 0.

    Raises:
        ValueError: the record is damaged.
    """
    folder = Path(folder)
    if not (folder / GRID_FILE).is_file():
        return {}
    record = _read(folder / GRID_FILE)
    return runs_of_trials(record, read_states(folder)) if record.get("trials") else {}


def write_grid_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``grid.json``; one that is there and damaged is set aside. Runs that were trials once stay known as such, so that no
    table takes one for a cell's.

    Raises:
        StorageError: it cannot be written.
    """
    file = folder / GRID_FILE
    with stored(file):
        folder.mkdir(parents=True, exist_ok=True)
        trials: dict[str, str] = dict(record.get("trials", {}))
        try:
            if file.is_file():
                trials = {**_read(file).get("trials", {}), **trials}
        except ValueError as error:
            set_aside(file, error, "it is written anew")
        if trials:
            record = {**record, "trials": with_runs(trials, read_states(folder))}
        write_record(file, record)


def _read(file: Path) -> dict[str, Any]:
    """The record in its whole form, with what earlier versions did not write."""
    try:
        record = read_record(file, _KINDS, _MORE)
    except OSError as error:
        raise ValueError(str(error)) from None
    for cell in record["cells"]:
        for key, fits in {**_CELL, **_CELL_MORE}.items():
            if not (fits(cell[key]) if key in cell else key in _CELL_MORE):
                raise ValueError(f"the {key} of a cell is {cell.get(key)!r:.40}")
        for key, default in (("run", None), ("error", ""), ("key", "")):
            cell[key] = cell.get(key) or default
    return {"teachers": {}, "trained": {}, "weights": {}, **record}


def reader_of(folder: str | Path) -> Results:
    """Results of the runs of a folder, each read until it is there, and then never again."""
    known: dict[str, Mapping[str, Any] | None] = {}

    def look(run: str) -> Mapping[str, Any] | None:
        if known.get(run) is None:
            try:
                found = read_result(Path(folder) / run / "result.json")
            except (OSError, ValueError):
                found = {}
            known[run] = found if found.get("run_id") == run else None
        return known[run]

    return look


def _hashes(record: Mapping[str, Any], look: Results) -> dict[str, set[str]]:
    """Names of the grid's teachers by the hash of their weights."""
    known: dict[str, set[str]] = {}
    for name, sha256 in record["weights"].items():
        known.setdefault(sha256, set()).add(name)
    for name, run in record["trained"].items():
        if sha256 := (look(run) or {}).get("student_sha256"):
            known.setdefault(str(sha256), set()).add(name)
    return known


def _is_of(
    cell: Mapping[str, Any], run: str, result: Mapping[str, Any] | None, hashes: Mapping[str, set[str]], told: set[str]
) -> bool:
    """Whether a run is that of a cell; one that is another is named, once."""
    if result is None:
        return False
    other = contradiction(asked_of_cell(cell), result)
    if (
        not other
        and cell.get("teacher")
        and (teacher := other_teacher(cell["teacher"], result["teacher_sha256"], hashes))
    ):
        other = f"its teacher is {teacher}, not {cell['teacher']}"
    if other and run not in told:
        told.add(run)
        log.warning(
            "%s is not the run of %s / %s, and is not taken for it: %s", run, cell["pair"], cell["method"], other
        )
    return not other
