"""Run a grid: teachers first, each cell as soon as its teacher is there, finished runs never again."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench.bench.executor import LocalPool, Outcome, default_jobs
from kdbench.bench.plan import Cell, Grid, Teacher, load_grid
from kdbench.config import to_dict
from kdbench.engine.run import RunResult, train
from kdbench.engine.run_folder import write_atomically

log = logging.getLogger(__name__)
GRID_FILE = "grid.json"


@dataclass
class Task:
    """A run that a grid needs: a teacher's, or that of one or more cells with the same configuration."""

    label: str
    cfg: CfgNode
    cells: list[Cell] = field(default_factory=list)
    teacher: Teacher | None = None
    trains: str = ""  # name of the teacher that this task makes


@dataclass
class GridReport:
    """What became of a grid: run ids of cells, and the reasons of those that failed."""

    folder: Path
    results: dict[str, RunResult]
    failed: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether every run has finished."""
        return not self.failed


def run_grid(
    grid: Grid | str | Path,
    *,
    prefix: str = "runs",
    jobs: int = 0,
    threads: int = 0,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    imports: tuple[str, ...] = (),
    announce: Callable[[str], None] | None = None,
) -> GridReport:
    """Run every cell of a grid that is not done.

    Args:
        grid: a resolved grid, or its file.
        prefix: folder above the grid's own folder.
        jobs: worker processes; 0 = one per GPU, or one per core.
        threads: of each worker; 0 = the cores divided by the jobs.
        overrides: configuration keys put over every cell.
        imports: modules or files that workers import first, for methods from outside the package.
        announce: called with one line per finished run.

    Raises:
        KdbenchError: the grid is wrong; nothing was run.
    """
    grid = grid if isinstance(grid, Grid) else load_grid(grid, overrides)
    folder = Path(prefix) / grid.name
    tasks = _tasks(grid, prefix)
    auto_jobs, auto_threads = default_jobs()
    jobs = min(jobs or auto_jobs, len(tasks))
    runner = _Runner(grid, tasks, announce or log.info, imports)
    with LocalPool(jobs, threads or auto_threads) as pool:
        runner.run(pool)
    if runner.results:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / GRID_FILE, json.dumps(runner.record(), indent=1) + "\n")
    return GridReport(folder, runner.results, runner.failed)


def _tasks(grid: Grid, prefix: str) -> list[Task]:
    """Teachers' runs, then cells; cells of equal configuration (a student alone, under two teachers' rows) share one."""
    used = {cell.teacher for cell in grid.cells if cell.teacher}
    tasks = [
        Task(f"teacher {name}", _placed(teacher.cfg, prefix, grid.name), trains=name)
        for name, teacher in grid.teachers.items()
        if teacher.cfg is not None and name in used
    ]
    by_config: dict[str, Task] = {}
    for cell in grid.cells:
        key = json.dumps([to_dict(cell.cfg), cell.teacher], sort_keys=True)
        if key not in by_config:
            teacher = grid.teachers.get(cell.teacher)
            by_config[key] = Task(cell.label, _placed(cell.cfg, prefix, grid.name), teacher=teacher)
            tasks.append(by_config[key])
        by_config[key].cells.append(cell)
    return tasks


def _placed(cfg: CfgNode, prefix: str, name: str) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.LOG.PREFIX, cfg.EXPERIMENT.NAME = prefix, name
    cfg.freeze()
    return cfg


class _Runner:
    """Hands out tasks as their teachers become available and collects what comes back."""

    def __init__(
        self, grid: Grid, tasks: list[Task], announce: Callable[[str], None], imports: tuple[str, ...]
    ) -> None:
        self.grid, self.announce, self.imports = grid, announce, imports
        self.waiting = list(enumerate(tasks))
        self.tasks = tasks
        self.weights = {name: teacher.weights for name, teacher in grid.teachers.items() if teacher.weights}
        self.results: dict[str, RunResult] = {}
        self.failed: dict[str, str] = {}
        self.dead: dict[str, str] = {}
        self.by_task: dict[int, RunResult] = {}

    def run(self, pool: LocalPool) -> None:
        while self.waiting or pool.is_busy:
            self._start_ready(pool)
            if not pool.is_busy:
                continue  # only tasks of failed teachers are left; _start_ready has dropped them
            for number, outcome in pool.finished():
                self._collect(number, outcome)

    def _start_ready(self, pool: LocalPool) -> None:
        kept = []
        for number, task in self.waiting:
            name = task.teacher.name if task.teacher else ""
            if name in self.dead:
                self._collect(number, Outcome(error=f"its teacher {name} failed: {self.dead[name]}"))
            elif pool.has_room and (not name or name in self.weights):
                cfg = task.cells[0].with_teacher(task.teacher, self.weights.get(name, "")) if task.cells else task.cfg
                cfg = _placed(cfg, task.cfg.LOG.PREFIX, task.cfg.EXPERIMENT.NAME)
                pool.start(number, run_task, cfg, self.imports)
            else:
                kept.append((number, task))
        self.waiting = kept

    def _collect(self, number: int, outcome: Outcome) -> None:
        task = self.tasks[number]
        done = len(self.by_task) + len(self.failed) + 1
        head = f"[{done:>{len(str(len(self.tasks)))}}/{len(self.tasks)}] {task.label}"
        if outcome.error:
            self.failed[task.label] = outcome.error
            if task.trains:
                self.dead[task.trains] = outcome.error
            self.announce(f"{head}  FAILED: {outcome.error}")
            return
        result, seconds = outcome.value
        self.by_task[number] = self.results[task.label] = result
        if task.trains:
            self.weights[task.trains] = str(Path(result.folder) / "student.safetensors")
        self.announce(f"{head}  top-1 {result.top1_last:.2f}  {seconds:.1f} s")

    def record(self) -> dict[str, Any]:
        """What the table needs to know besides the runs: order and labels of rows and columns."""
        cells = []
        for number, task in enumerate(self.tasks):
            for cell in task.cells:
                result = self.by_task.get(number)
                entry = {
                    "pair": cell.pair,
                    "method": cell.method,
                    "seed": cell.seed,
                    "teacher": cell.teacher,
                    "student": cell.student,
                }
                cells.append(
                    {**entry, "run": result.run_id if result else None, "error": self.failed.get(task.label, "")}
                )
        head = {
            "name": self.grid.name,
            "pairs": self.grid.pairs,
            "methods": self.grid.methods,
            "baseline": self.grid.baseline,
        }
        return {**head, "cells": cells}


def run_task(cfg: CfgNode, imports: tuple[str, ...] = ()) -> tuple[RunResult, float]:
    """One run, in a worker; returns its result and the seconds that it took here (little, when it was done already)."""
    if imports:
        from kdbench.cli.main import import_plugins

        import_plugins(imports)
    started = time.perf_counter()
    return train(cfg), time.perf_counter() - started
