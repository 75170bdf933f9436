"""A run that a grid needs, as something that an executor can carry out anywhere."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from kdbench.bench.grids.grid_file import Cell, Grid, Teacher
from kdbench.bench.grids.lock import BusyError, LockLostError, claimed
from kdbench.bench.grids.state import read_states, write_state
from kdbench.bench.running.torchrun import train_in_processes
from kdbench.config.identity import beyond, decisive
from kdbench.config.load import to_dict
from kdbench.engine.identity.brought import brought_code
from kdbench.engine.result import RunResult
from kdbench.engine.run import train
from kdbench.engine.run_folder import RunFolder
from kdbench.errors import KdbenchError
from kdbench.files import write_atomically

log = logging.getLogger(__name__)
BUSY = "busy"


@dataclass
class Task:
    """A teacher's run, or that of one or more cells with the same configuration.

    ``key`` names it within the grid's folder: a hash of its configuration and its teacher's, known before the teacher is, of the
    code that the user brought, and of the number of processes, where there are several. ``code`` are the digests of that code.
    """

    label: str
    cfg: CfgNode
    key: str
    cells: list[Cell] = field(default_factory=list)
    teacher: Teacher | None = None
    trains: str = ""  # name of the teacher that this task makes
    code: dict[str, str] = field(default_factory=dict)


def make_tasks(grid: Grid, prefix: str, processes: int = 1) -> list[Task]:
    """Teachers' runs, then cells; cells of equal configuration (a student alone, under two teachers' rows) share one."""
    used = {cell.teacher for cell in grid.cells if cell.teacher}
    keys: dict[str, str] = {}
    tasks: list[Task] = []
    for name, teacher in grid.teachers.items():
        if name not in used:
            continue
        code = {} if teacher.cfg is None else brought_code(teacher.cfg)
        keys[name] = _teacher_key(teacher, code, processes)
        if teacher.cfg is not None:
            cfg = placed(teacher.cfg, prefix, grid.name)
            tasks.append(Task(f"teacher {name}", cfg, keys[name], trains=name, code=code))
    by_key: dict[str, Task] = {}
    for cell in grid.cells:
        teacher_of = grid.teachers.get(cell.teacher)
        code = brought_code(cell.cfg, "" if teacher_of is None else teacher_of.model)
        key = _key([*_identity(cell.cfg, code, processes), keys.get(cell.teacher, "")])
        if key not in by_key:
            by_key[key] = Task(cell.label, placed(cell.cfg, prefix, grid.name), key, teacher=teacher_of, code=code)
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
    cfg: CfgNode,
    imports: tuple[str, ...],
    folder: str,
    key: str,
    cwd: str = "",
    processes: int = 1,
    code: Mapping[str, str] | None = None,
) -> tuple[RunResult, float] | str:
    """One run, in a worker: claim it, train, record what became of it.

    Args:
        cfg: its configuration.
        imports: modules to import first.
        folder: the grid's.
        key: the run's name in the grid's state.
        cwd: folder to work in; empty = the present one.
        processes: of the run; several are started through torchrun.
        code: digests of what the user brought, as the grid found them; None does without the comparison.

    Raises:
        KdbenchError: of the run, or the user's code was changed while the grid was under way.

    Returns:
        The result and the seconds that it took here (little, when it was done already), or :data:`BUSY` while another
        process is at it, or has taken it over.
    """
    if cwd:
        os.chdir(cwd)  # a worker of a cluster starts elsewhere
    if imports:
        from kdbench.plugins import import_plugins

        import_plugins(imports)
    if code is not None and (changed := changed_code(code, brought_code(cfg))):
        raise KdbenchError(
            f"{changed} changed while the grid was under way; run the grid again, which begins with the new code"
        )
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
    except (ValueError, OSError):
        return None


def changed_code(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Names of the modules whose digests differ."""
    return ", ".join(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))


def _teacher_key(teacher: Teacher, code: Mapping[str, str], processes: int) -> str:
    if teacher.cfg is not None:
        return _key(_identity(teacher.cfg, code, processes))
    weights = teacher.weights
    if Path(weights).is_file():
        from kdbench.models.weights.read import file_sha256

        weights = file_sha256(weights)
    return _key([teacher.model, weights, to_dict(teacher.settings)])


def _identity(cfg: CfgNode, code: Mapping[str, str], processes: int) -> list[Any]:
    # weights that the configuration itself names do tell runs apart
    return [[decisive(cfg), cfg.STUDENT.WEIGHTS, cfg.TEACHER.WEIGHTS], *beyond(cfg, code, processes)]


def _key(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
