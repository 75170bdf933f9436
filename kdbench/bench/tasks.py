"""A run that a grid needs, as something that an executor can carry out anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench.bench.plan import Cell, Grid, Teacher
from kdbench.bench.state import BusyError, claimed, read_states, write_state
from kdbench.config import to_dict
from kdbench.config_defaults import NOT_IDENTITY
from kdbench.engine.run import RunResult, train
from kdbench.engine.run_folder import RunFolder

BUSY = "busy"


@dataclass
class Task:
    """A teacher's run, or that of one or more cells with the same configuration.

    ``key`` names it within the grid's folder: a hash of its configuration and its teacher's, known before the teacher is.
    """

    label: str
    cfg: CfgNode
    key: str
    cells: list[Cell] = field(default_factory=list)
    teacher: Teacher | None = None
    trains: str = ""  # name of the teacher that this task makes


def make_tasks(grid: Grid, prefix: str) -> list[Task]:
    """Teachers' runs, then cells; cells of equal configuration (a student alone, under two teachers' rows) share one."""
    used = {cell.teacher for cell in grid.cells if cell.teacher}
    keys = {name: _teacher_key(teacher) for name, teacher in grid.teachers.items() if name in used}
    tasks = [
        Task(f"teacher {name}", placed(teacher.cfg, prefix, grid.name), keys[name], trains=name)
        for name, teacher in grid.teachers.items()
        if teacher.cfg is not None and name in used
    ]
    by_key: dict[str, Task] = {}
    for cell in grid.cells:
        key = _key([_identity(cell.cfg), keys.get(cell.teacher, "")])
        if key not in by_key:
            teacher = grid.teachers.get(cell.teacher)
            by_key[key] = Task(cell.label, placed(cell.cfg, prefix, grid.name), key, teacher=teacher)
            tasks.append(by_key[key])
        by_key[key].cells.append(cell)
    return tasks


def placed(cfg: CfgNode, prefix: str, name: str) -> CfgNode:
    """The configuration with the folder into which its run goes."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.LOG.PREFIX, cfg.EXPERIMENT.NAME = prefix, name
    cfg.freeze()
    return cfg


def run_task(
    cfg: CfgNode, imports: tuple[str, ...], folder: str, key: str, cwd: str = ""
) -> tuple[RunResult, float] | str:
    """One run, in a worker: claim it, train, record what became of it.

    Returns:
        The result and the seconds that it took here (little, when it was done already), or :data:`BUSY` while another
        process is at it.
    """
    if cwd:
        os.chdir(cwd)  # a worker of a cluster starts elsewhere
    if imports:
        from kdbench.cli.main import import_plugins

        import_plugins(imports)
    started = time.perf_counter()
    try:
        with claimed(folder, key):
            result = train(cfg)
            write_state(folder, key, {"status": "done", "run": result.run_id, "seconds": time.perf_counter() - started})
    except BusyError:
        return BUSY
    return result, time.perf_counter() - started


def finished_run(folder: str | Path, key: str, states: dict[str, dict[str, Any]] | None = None) -> RunResult | None:
    """The result of a run that is recorded as done, if its folder is still there."""
    record = (read_states(folder) if states is None else states).get(key, {})
    if record.get("status") != "done":
        return None
    run = RunFolder(Path(folder) / str(record["run"]))
    try:
        return RunResult.read(run) if run.done else None
    except (ValueError, TypeError, OSError):
        return None


def _teacher_key(teacher: Teacher) -> str:
    if teacher.cfg is not None:
        return _key([_identity(teacher.cfg)])
    weights = teacher.weights
    if Path(weights).is_file():
        from kdbench.models.checkpoints import file_sha256

        weights = file_sha256(weights)
    return _key([teacher.model, weights, to_dict(teacher.settings)])


def _identity(cfg: CfgNode) -> Any:
    tree = to_dict(cfg)
    for key in NOT_IDENTITY:
        *path, last = key.split(".")
        node: Any = tree
        for part in path:
            node = node.get(part, {})
        node.pop(last, None)
    # weights that the configuration itself names do tell runs apart
    return [tree, cfg.STUDENT.WEIGHTS, cfg.TEACHER.WEIGHTS]


def _key(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
