"""A run that a grid needs, as something that an executor can carry out anywhere."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from kdbench.bench.claim import BusyError, LockLostError, claimed
from kdbench.bench.launch import train_in_processes
from kdbench.bench.plan import Cell, Grid, Teacher
from kdbench.bench.state import read_states, write_state
from kdbench.config import to_dict
from kdbench.engine.identity import decisive
from kdbench.engine.run import RunResult, train
from kdbench.engine.run_folder import RunFolder, write_atomically

log = logging.getLogger(__name__)
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


def write_configs(tasks: list[Task], folder: str | Path) -> list[Path]:
    """Write each run's resolved configuration, as ``kdbench train --cfg`` takes it; returns the files.

    Weights of a teacher that the grid itself trains are not known yet: the first line says so.
    """
    files = []
    for task in tasks:
        cfg, remark = task.cfg, f"# {task.label}"
        if task.cells and task.teacher is not None:
            cfg = placed(
                task.cells[0].with_teacher(task.teacher, task.teacher.weights), cfg.LOG.PREFIX, cfg.EXPERIMENT.NAME
            )
            if not task.teacher.weights:
                remark += (
                    f"; TEACHER.WEIGHTS: the student.safetensors that the run of teacher {task.teacher.name} will make"
                )
        file = Path(folder) / f"{re.sub(r'[^A-Za-z0-9_+.-]+', '_', task.label)}-{task.key[:6]}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, f"{remark}\n{yaml.safe_dump(to_dict(cfg), sort_keys=False)}")
        files.append(file)
    return files


def run_task(
    cfg: CfgNode, imports: tuple[str, ...], folder: str, key: str, cwd: str = "", processes: int = 1
) -> tuple[RunResult, float] | str:
    """One run, in a worker: claim it, train, record what became of it.

    Args:
        cfg: its configuration.
        imports: modules to import first.
        folder: the grid's.
        key: the run's name in the grid's state.
        cwd: folder to work in; empty = the present one.
        processes: of the run; several are started through torchrun.

    Returns:
        The result and the seconds that it took here (little, when it was done already), or :data:`BUSY` while another
        process is at it, or has taken it over.
    """
    if cwd:
        os.chdir(cwd)  # a worker of a cluster starts elsewhere
    if imports:
        from kdbench.plugins import import_plugins

        import_plugins(imports)
    started = time.perf_counter()
    try:
        with claimed(folder, key) as claim:
            if processes > 1:
                result = train_in_processes(cfg, processes, folder, key, claim, imports)
            else:
                result = train(cfg, progress=claim.check)
            write_state(folder, key, {"status": "done", "run": result.run_id, "seconds": time.perf_counter() - started})
    except BusyError:
        return BUSY
    except LockLostError as error:
        log.warning("%s", error)
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
    # weights that the configuration itself names do tell runs apart
    return [decisive(cfg), cfg.STUDENT.WEIGHTS, cfg.TEACHER.WEIGHTS]


def _key(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
