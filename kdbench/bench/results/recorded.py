"""Whether the run that a grid's state names is that of a task: by what its folder says, not by what the state says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from kdbench.bench.grids.asked import other_teacher
from kdbench.bench.grids.grid import Grid
from kdbench.bench.grids.state import finished_run, forget
from kdbench.bench.grids.tasks import Task
from kdbench.bench.results.recipe import differences, recipe, recipe_of_run
from kdbench.config.load import to_dict
from kdbench.engine.result import RunResult

#: what a run may take from the files of its weights where its configuration is silent, with the value that is silence
_SILENT = {"NORM": "auto", "INPUT_SIZE": 0}
#: names of networks are compared by what results say
_NAMES = ("DISTILLER.STUDENT", "DISTILLER.TEACHER")


def recorded_run(
    folder: Path, task: Task, states: dict[str, dict[str, Any]], teachers: Mapping[str, Set[str]]
) -> RunResult | None:
    """The result of a task that is recorded as done; None where the run is not there, or not surely the task's. A state that names
    another run is set aside; where only the configuration is written otherwise, training tells (it finds the run by its identity).

    Args:
        folder: the grid's.
        task: the task.
        states: from :func:`kdbench.bench.grids.state.read_states`.
        teachers: names of the grid's teachers by the hash of their weights.
    """
    result = finished_run(folder, task.key, states, task.asked)
    if result is None:
        return None
    if task.teacher is not None and (other := other_teacher(task.teacher.name, result.teacher_sha256, teachers)):
        reason = f"the run {result.run_id} learned from {other}, not from {task.teacher.name}"
        forget(folder, task.key, states, reason)
        return None
    cfg = task.config()
    found, wanted = recipe_of_run(result.folder), dict(recipe(to_dict(cfg)))
    if found is None:
        return None
    left_out = {
        f"{role}.{key}" for role in ("TEACHER", "STUDENT") for key, value in _SILENT.items() if cfg[role][key] == value
    }
    left_out |= set(_NAMES)
    there = {key: value for key, value in found.recipe.items() if key not in left_out}
    return None if differences(there, {k: v for k, v in wanted.items() if k not in left_out}) else result


def given_weights(grid: Grid) -> dict[str, str]:
    """SHA-256 of the files of weights by the names of the teachers that have them, where several are of one network.

    Raises:
        ModelError: a file cannot be read.
    """
    from kdbench.models.weights.read import file_sha256

    given = {name: teacher for name, teacher in grid.teachers.items() if Path(teacher.weights).is_file()}
    counts = Counter(teacher.network for teacher in given.values())
    return {name: file_sha256(teacher.weights) for name, teacher in given.items() if counts[teacher.network] > 1}
