"""Run a grid: teachers first, each cell as soon as its teacher is there, finished runs never again."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench.bench.grids.grid_file import Grid, load_grid
from kdbench.bench.grids.state import GRID_FILE, clear_failures, finished_run, read_states, write_state
from kdbench.bench.grids.tasks import Task, make_tasks, placed
from kdbench.bench.running.cohorts import AUTO, put_together
from kdbench.bench.running.local_pool import LocalPool, default_jobs
from kdbench.bench.running.pool import Outcome, Pool
from kdbench.bench.running.run_task import BUSY, Member, run_cohort, run_task
from kdbench.engine.result import RunResult
from kdbench.files import write_atomically
from kdbench.paths import expanded

log = logging.getLogger(__name__)
_POLL = 1.0  # seconds between looks at runs that another grid is at


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
    retry: bool = False,
    pool: Pool | None = None,
    processes: int = 1,
    cohort: int = AUTO,
) -> GridReport:
    """Run every cell of a grid that is not done. Several processes may do so on one folder: each run is done by one.

    Args:
        grid: a resolved grid, or its file.
        prefix: folder above the grid's own folder.
        jobs: worker processes; 0 = one per GPU, or one per core.
        threads: of each worker; 0 = the cores divided by the jobs.
        overrides: configuration keys put over every cell.
        imports: modules or files that workers import first, for methods from outside the package.
        announce: called with one line per finished run.
        retry: try runs again that are recorded as failed; otherwise they are reported with their reason and left alone.
        pool: what carries out the runs; default: processes of this machine.
        processes: of each run, through torchrun; each takes a GPU, where there are some.
        cohort: the most runs that are trained together where they share batches and teacher, each to the bytes of its separate
            run; :data:`kdbench.bench.running.cohorts.AUTO` as many as there are, 1 none. Runs of several processes never are.

    Raises:
        KdbenchError: the grid is wrong; nothing was run.
    """
    grid = grid if isinstance(grid, Grid) else load_grid(grid, overrides)
    prefix = expanded(prefix)
    folder = Path(prefix) / grid.name
    tasks = make_tasks(grid, prefix, processes)
    if retry:
        clear_failures(folder, [task.key for task in tasks])
    workers = jobs or 1
    if pool is None:
        auto_jobs, auto_threads = default_jobs(processes)
        workers = min(jobs or auto_jobs, len(tasks))
        pool = LocalPool(workers, threads or auto_threads, gpus_each=processes)
    size = cohort if processes == 1 else 1
    runner = _Runner(grid, tasks, folder, announce or log.info, imports, processes, size, workers)
    runner.write_record()
    with pool:
        runner.run(pool)
    runner.write_record()
    return GridReport(folder, runner.results, runner.failed)


class _Runner:
    """Hands out tasks as their teachers become available and collects what comes back."""

    def __init__(
        self,
        grid: Grid,
        tasks: list[Task],
        folder: Path,
        announce: Callable[[str], None],
        imports: tuple[str, ...],
        processes: int,
        size: int,
        workers: int,
    ) -> None:
        self.processes, self.size, self.workers = processes, size, workers
        self.alone: set[int] = set()  # tasks whose cohort died with them, so that they are run by themselves
        self.grid, self.folder, self.announce, self.imports = grid, folder, announce, imports
        self.waiting = list(enumerate(tasks))
        self.tasks = tasks
        self.weights = {name: teacher.weights for name, teacher in grid.teachers.items() if teacher.weights}
        self.results: dict[str, RunResult] = {}
        self.failed: dict[str, str] = {}
        self.dead: dict[str, str] = {}
        self.by_task: dict[int, RunResult] = {}
        self.elsewhere: set[int] = set()  # tasks that another process was at when we last looked
        self.states: dict[str, dict[str, Any]] = read_states(folder)
        self.looked = time.monotonic()

    def run(self, pool: Pool) -> None:
        while self.waiting or pool.is_busy:
            self._start_ready(pool)
            if pool.is_busy:
                for numbers, outcome in pool.finished(timeout=_POLL if self.elsewhere else None):
                    self._take_back(numbers, outcome)
            elif self.waiting and self.elsewhere:
                time.sleep(_POLL)
            self._look()

    def _look(self) -> None:
        """See what other processes have done meanwhile."""
        if self.elsewhere and time.monotonic() - self.looked >= _POLL:
            self.states, self.looked = read_states(self.folder), time.monotonic()
            self.elsewhere = {n for n in self.elsewhere if self._status(n) == "running"}

    def _status(self, number: int) -> str:
        return str(self.states.get(self.tasks[number].key, {}).get("status", ""))

    def _start_ready(self, pool: Pool) -> None:
        kept = []
        ready: dict[int, CfgNode] = {}
        for number, task in self.waiting:
            name = task.teacher.name if task.teacher else ""
            done = finished_run(self.folder, task.key, self.states)
            if done is not None:
                self._collect(number, Outcome((done, 0.0)), recorded=True)
            elif self._status(number) == "failed":
                self._collect(number, Outcome(error=str(self.states[task.key].get("error"))), recorded=True)
            elif name in self.dead:
                # no record: the cell is tried as soon as its teacher is there
                self._collect(number, Outcome(error=f"its teacher {name} failed: {self.dead[name]}"), recorded=True)
            else:
                kept.append((number, task))
                if pool.has_room and number not in self.elsewhere and (not name or name in self.weights):
                    cfg = (
                        task.cells[0].with_teacher(task.teacher, self.weights.get(name, "")) if task.cells else task.cfg
                    )
                    ready[number] = placed(cfg, task.cfg.LOG.PREFIX, task.cfg.EXPERIMENT.NAME)
        begun: set[int] = set()
        for group in self._groups(ready):
            if pool.has_room:
                self._start(pool, group, ready)
                begun |= set(group)
        self.waiting = [(number, task) for number, task in kept if number not in begun]

    def _groups(self, ready: dict[int, CfgNode]) -> list[list[int]]:
        """What may begin, as groups that are trained together; teachers first, each by itself."""
        single = [number for number in ready if self.tasks[number].trains or number in self.alone]
        others = {number: cfg for number, cfg in ready.items() if number not in single}
        return [*([number] for number in single), *put_together(others, self.size, self.workers)]

    def _start(self, pool: Pool, group: list[int], ready: dict[int, CfgNode]) -> None:
        tasks = [self.tasks[number] for number in group]
        if len(group) == 1:
            place = (str(self.folder), tasks[0].key, os.getcwd(), self.processes, tasks[0].code)
            pool.start(group, run_task, ready[group[0]], self.imports, *place)
        else:
            members = [Member(ready[number], task.key, task.code) for number, task in zip(group, tasks)]
            pool.start(group, run_cohort, members, self.imports, str(self.folder), os.getcwd())

    def _take_back(self, group: list[int], outcome: Outcome) -> None:
        """What became of a group."""
        if len(group) == 1:
            self._collect(group[0], outcome)
        elif outcome.died:  # perhaps of one of them, or of all together
            log.warning("a worker died with %d runs; they are run one by one", len(group))
            self.alone |= set(group)
            self.waiting += [(number, self.tasks[number]) for number in group]
        else:
            found = [outcome] * len(group) if outcome.error else outcome.value
            for number, own in zip(group, found):
                self._collect(number, own)

    def _collect(self, number: int, outcome: Outcome, *, recorded: bool = False) -> None:
        task = self.tasks[number]
        if outcome.value == BUSY:
            self.states.setdefault(task.key, {"status": "running"})
            self.elsewhere.add(number)
            self.waiting.append((number, task))
            return
        done = len(self.by_task) + len(self.failed) + 1
        head = f"[{done:>{len(str(len(self.tasks)))}}/{len(self.tasks)}] {task.label}"
        if outcome.error:
            self.failed[task.label] = outcome.error
            if task.trains:
                self.dead[task.trains] = outcome.error
            if not recorded:
                record = {"status": "failed", "label": task.label, "error": outcome.error}
                write_state(self.folder, task.key, record, trace=outcome.trace)
            self.announce(f"{head}  FAILED: {outcome.error}")
            return
        result, seconds = outcome.value
        self.by_task[number] = self.results[task.label] = result
        if task.trains:
            self.weights[task.trains] = str(Path(result.folder) / "student.safetensors")
        self.announce(f"{head}  top-1 {result.top1_last:.2f}  {f'{seconds:.1f} s' if seconds else 'done before'}")

    def write_record(self) -> None:
        """What table and status need to know besides the runs: order and labels of rows and columns, keys of the state."""
        cells = []
        for number, task in enumerate(self.tasks):
            result = self.by_task.get(number)
            for cell in task.cells:
                entry = {"pair": cell.pair, "method": cell.method, "seed": cell.seed, "teacher": cell.teacher}
                entry |= {"student": cell.student, "dataset": cell.cfg.DATASET.TYPE}
                entry |= {"network": self.grid.teachers[cell.teacher].network if cell.teacher else ""}
                entry |= {"key": task.key, "run": result.run_id if result else None}
                cells.append({**entry, "error": self.failed.get(task.label, "")})
        head = {
            "name": self.grid.name,
            "pairs": self.grid.pairs,
            "methods": self.grid.methods,
            "baseline": self.grid.baseline,
        }
        teachers = {task.trains: task.key for task in self.tasks if task.trains}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / GRID_FILE, json.dumps({**head, "teachers": teachers, "cells": cells}) + "\n")
