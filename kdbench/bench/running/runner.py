"""Hands out the runs of a grid, and collects what becomes of them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench import stopping
from kdbench.bench.grids.grid import Grid
from kdbench.bench.grids.grid_record import compose, write_grid_record
from kdbench.bench.grids.state import read_states, write_state
from kdbench.bench.grids.tasks import Task
from kdbench.bench.machine.speeds import Kind
from kdbench.bench.machine.time_left import TimeLeft, duration
from kdbench.bench.results.recorded import given_weights, recorded_run
from kdbench.bench.running.cohorts import put_together
from kdbench.bench.running.pools.pool import Outcome, Pool
from kdbench.bench.running.run_task import BUSY, Member, run_cohort, run_task
from kdbench.engine.result import RunResult
from kdbench.engine.run_folder import RunFolder
from kdbench.errors import StorageError

log = logging.getLogger(__name__)
_POLL = 1.0  # seconds between looks at runs that another grid is at, and at signals
_PATIENCE = 60.0  # seconds for runs to save themselves


class Runner:
    """Hands out tasks as their teachers become available and collects what comes back.

    Args:
        grid: resolved.
        tasks: its runs.
        folder: the grid's.
        announce: called with a line per finished run.
        imports: modules that workers import first.
        processes: of each run.
        size: largest number of runs that are trained together.
        workers: groups at a time; 0 = not known.
        kinds: of runs that share the memory of a GPU; empty where none do.
        told: what is announced of a cell's result.
    """

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
        kinds: Mapping[int, Kind],
        told: Callable[[RunResult], str] | None = None,
    ) -> None:
        self.told = told or accuracy_text
        self.processes, self.size, self.workers, self.kinds = processes, size, workers, kinds
        self.single: set[int] = set()  # tasks whose cohort died with them, so that they are run by themselves
        self.alone: set[int] = set()  # tasks for which there was no memory beside others of their GPU
        self.grid, self.folder, self.announce, self.imports = grid, folder, announce, imports
        self.waiting = list(enumerate(tasks))
        self.tasks = tasks
        self.weights = {name: teacher.weights for name, teacher in grid.teachers.items() if teacher.weights}
        self.given = given_weights(grid)
        self.results: dict[str, RunResult] = {}
        self.failed: dict[str, str] = {}
        self.dead: dict[str, str] = {}
        self.by_task: dict[int, RunResult] = {}
        self.elsewhere: set[int] = set()  # tasks that another process was at when we last looked
        self.states: dict[str, dict[str, Any]] = read_states(folder)
        self.looked = time.monotonic()
        self.clock = TimeLeft({number: _likes(task) for number, task in self.waiting}, workers)

    def to_do(self) -> list[int]:
        """Tasks of which neither a result nor a failure is recorded."""
        return [
            number for number, _ in self.waiting if self._status(number) != "failed" and self._recorded(number) is None
        ]

    def _recorded(self, number: int) -> RunResult | None:
        """The result of a task that is recorded as done."""
        teachers: dict[str, set[str]] = {}
        made = {
            self.tasks[n].trains: result.student_sha256 for n, result in self.by_task.items() if self.tasks[n].trains
        }
        for name, sha256 in (self.given | made).items():
            teachers.setdefault(sha256, set()).add(name)
        return recorded_run(self.folder, self.tasks[number], self.states, teachers)

    def run(self, pool: Pool) -> None:
        """Until every task has ended, here or in another process.

        Raises:
            RunStoppedError: a signal asked this process to stop; what was under way is saved.
        """
        while self.waiting or pool.is_busy:
            self._start_ready(pool)
            if pool.is_busy:
                self._wait(pool)
            elif self.waiting and self.elsewhere:
                time.sleep(_POLL)
            if stopping.asked():
                self._stop(pool)
            self._look()

    def _wait(self, pool: Pool) -> None:
        """Take back what has ended; return without, where there may be something else to do."""
        found = False
        while not (found or stopping.asked()):
            for numbers, outcome in pool.finished(timeout=_POLL):
                self._take_back(numbers, outcome)
                found = True
            found = found or bool(self.elsewhere)

    def _stop(self, pool: Pool) -> None:
        deadline = time.monotonic() + _PATIENCE
        if pool.stop():
            while pool.is_busy and time.monotonic() < deadline:
                for numbers, outcome in pool.finished(timeout=_POLL):
                    self._take_back(numbers, outcome)
        left = len(self.tasks) - len(self.by_task) - len(self.failed)
        if left:
            stopping.check(f"with {left} of {len(self.tasks)} runs to do, of which those under way are saved")

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
            names = [one.name for one in task.teacher.each] if task.teacher else []
            done = self._recorded(number)
            if done is not None and done.damage(RunFolder(done.folder), student=bool(task.trains)):
                done = None  # its run finds that out, too, and writes again what is damaged
            if done is not None:
                self._collect(number, Outcome((done, 0.0)), recorded=True)
            elif self._status(number) == "failed":
                self._collect(number, Outcome(error=str(self.states[task.key].get("error"))), recorded=True)
            elif dead := [name for name in names if name in self.dead]:
                # no record: the cell is tried as soon as its teacher is there
                reason = f"its teacher {dead[0]} failed: {self.dead[dead[0]]}"
                self._collect(number, Outcome(error=reason), recorded=True)
            else:
                kept.append((number, task))
                if pool.has_room and number not in self.elsewhere and all(name in self.weights for name in names):
                    found = [self.weights[name] for name in names]
                    ready[number] = task.config(found if len(found) > 1 else "".join(found))
        begun: set[int] = set()
        for group in self._groups(ready):
            if pool.has_room_for(self._kind(group), alone=group[0] in self.alone):
                self._start(pool, group, ready)
                begun |= set(group)
        self.waiting = [(number, task) for number, task in kept if number not in begun]

    def _groups(self, ready: dict[int, CfgNode]) -> list[list[int]]:
        """What may begin, as groups that are trained together; teachers first, each by itself."""
        apart = self.single | self.alone
        single = [number for number in ready if self.tasks[number].trains or number in apart]
        others = {number: cfg for number, cfg in ready.items() if number not in single}
        return [*([number] for number in single), *put_together(others, self.size, self.workers or 1)]

    def _kind(self, group: list[int]) -> str:
        """Equal for groups that take the same memory of a GPU; empty where that does not matter."""
        return " with ".join(sorted(str(self.kinds[number]) for number in group if number in self.kinds))

    def _start(self, pool: Pool, group: list[int], ready: dict[int, CfgNode]) -> None:
        tasks = [self.tasks[number] for number in group]
        where: dict[str, Any] = {"kind": self._kind(group), "alone": group[0] in self.alone}
        if len(group) == 1:
            place = (str(self.folder), tasks[0].key, os.getcwd(), self.processes, tasks[0].code)
            pool.start(group, run_task, ready[group[0]], self.imports, *place, **where)
        else:
            members = [Member(ready[number], task.key, task.code) for number, task in zip(group, tasks)]
            pool.start(group, run_cohort, members, self.imports, str(self.folder), os.getcwd(), **where)
        self.clock.begin(group)

    def _take_back(self, group: list[int], outcome: Outcome) -> None:
        """What became of a group."""
        self.clock.stop(group)
        if len(group) > 1 and outcome.died:  # perhaps of one of them, or of all together
            log.warning("a worker died with %d runs; they are run one by one", len(group))
            self.single |= set(group)
            self.waiting += [(number, self.tasks[number]) for number in group]
            return
        found = outcome.value if len(group) > 1 and not outcome.error else [outcome] * len(group)
        for number, own in zip(group, found):
            if own.stopped or (own.died and stopping.asked()):  # a scheduler that takes the machine away may kill, too
                self.waiting.append((number, self.tasks[number]))
            elif own.no_memory and (len(group) > 1 or outcome.crowded):
                log.warning("%s: no memory beside others of its GPU; it is run alone", self.tasks[number].label)
                self.alone.add(number)
                self.waiting.append((number, self.tasks[number]))
            else:
                self._collect(number, own)

    def _collect(self, number: int, outcome: Outcome, *, recorded: bool = False) -> None:
        task = self.tasks[number]
        if outcome.value == BUSY:
            self.states.setdefault(task.key, {"status": "running"})
            self.elsewhere.add(number)
            self.waiting.append((number, task))
            return
        self.clock.end(number, 0.0 if outcome.error or recorded else outcome.value[1])
        done = len(self.by_task) + len(self.failed) + 1
        head = f"[{done:>{len(str(len(self.tasks)))}}/{len(self.tasks)}] {task.label}"
        if outcome.error:
            self.failed[task.label] = outcome.error
            if task.trains:
                self.dead[task.trains] = outcome.error
            if not (recorded or outcome.passing):
                record = {"status": "failed", "label": task.label, "error": outcome.error}
                try:
                    write_state(self.folder, task.key, record, trace=outcome.trace)
                except StorageError as error:  # a full disk, say, which need not stop the others
                    log.warning("the failure of %s is not recorded: %s", task.label, error)
            self.announce(f"{head}  FAILED: {outcome.error}")
            return
        result, seconds = outcome.value
        self.by_task[number] = self.results[task.label] = result
        if task.trains:
            self.weights[task.trains] = str(Path(result.folder) / "student.safetensors")
        told = accuracy_text(result) if task.trains else self.told(result)
        self.announce(f"{head}  {told}  {self._time(seconds)}")

    def _time(self, seconds: float) -> str:
        """What a run took, and what is left of the grid."""
        if not seconds:
            return "done before"
        left = self.clock.left()
        return f"{seconds:.1f} s" + (f", about {duration(left)} left" if left else "")

    def write_record(self) -> None:
        """What table and status need to know besides the runs."""
        runs = {number: result.run_id for number, result in self.by_task.items()}
        write_grid_record(self.folder, compose(self.grid, self.tasks, runs, self.failed, self.given))


def accuracy_text(result: RunResult) -> str:
    """What is announced of a run of a cell or teacher."""
    return f"top-1 {result.student_top1:.2f}"


def _likes(task: Task) -> tuple[str, ...]:
    """What a run is like, nearest first, for :class:`kdbench.bench.machine.time_left.TimeLeft`."""
    if task.trains:
        return (f"teacher {task.cfg.DISTILLER.STUDENT}", "teachers")
    cell = task.cells[0]
    return (f"{cell.method} {cell.pair}", f"any {cell.pair}", "cells")
