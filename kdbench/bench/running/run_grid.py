"""Run a grid: teachers first, each cell as soon as its teacher is there, finished runs never again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdbench import stopping
from kdbench.bench.grids.grid import Grid
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.grids.grid_record import compose, earlier_record, write_grid_record
from kdbench.bench.grids.lock import STATE_DIR, read_lock
from kdbench.bench.grids.state import clear_failures, read_states
from kdbench.bench.grids.tasks import Task, make_tasks
from kdbench.bench.machine.cards import query_cards
from kdbench.bench.machine.speeds import Kind
from kdbench.bench.machine.workers import Workers, plan_workers, visible_gpus
from kdbench.bench.results.recorded import given_weights
from kdbench.bench.running.cohorts import AUTO
from kdbench.bench.running.forecast import Outlook, device_of, use_gpus
from kdbench.bench.running.pools.local_pool import LocalPool
from kdbench.bench.running.pools.main_guard import check_main
from kdbench.bench.running.pools.pool import Pool
from kdbench.bench.running.runner import Runner, accuracy_text
from kdbench.bench.running.sweep.contest import validation_text
from kdbench.bench.running.sweep.planned import planned_cells, planned_trials
from kdbench.bench.running.sweep.tune import Tuning
from kdbench.engine.result import RunResult
from kdbench.engine.training.tracking.choose import check_trackers
from kdbench.errors import RunStoppedError
from kdbench.paths import expanded

log = logging.getLogger(__name__)


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
    grid: Grid | str | Path | Mapping[str, Any],
    *,
    prefix: str = "runs",
    jobs: int = 0,
    threads: int = 0,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    imports: tuple[str, ...] = (),
    announce: Callable[[str], None] | None = None,
    foretell: Callable[[str], None] | None = None,
    began: Callable[[Callable[[], float | None]], None] | None = None,
    retry: bool = False,
    pool: Pool | None = None,
    processes: int = 1,
    cohort: int = AUTO,
) -> GridReport:
    """Run every cell of a grid that is not done. Several processes may do so on one folder: each run is done by one.

    Args:
        grid: a resolved grid, its file, or what that holds as a dictionary.
        prefix: folder above the grid's own folder.
        jobs: worker processes; 0 = one per core, or on GPUs as many as have room beside each other (see
            :func:`kdbench.bench.machine.workers.plan_workers`).
        threads: of each worker; 0 = one, or on GPUs the cores divided by the jobs.
        overrides: configuration keys put over every cell.
        imports: modules or files that workers import first, for methods from outside the package.
        announce: called with one line per finished run, which ends in the time that is left.
        foretell: called before the first run with a line on what all will cost, as far as finished runs tell.
        began: called before the first run with a function of the seconds that the grid still takes, None while nothing is known.
        retry: try runs again that are recorded as failed; otherwise they are reported with their reason and left alone.
        pool: what carries out the runs; default: processes of this machine.
        processes: of each run, through torchrun; each takes a GPU, where there are some.
        cohort: the most runs that are trained together where they share batches and teacher, each to the bytes of its separate
            run; :data:`kdbench.bench.running.cohorts.AUTO` as many as there are, 1 none. Runs of several processes never are.

    Raises:
        KdbenchError: the grid is wrong, or a script calls this on being imported; nothing was run.
        RunStoppedError: a signal asked this process to stop; what was under way is saved.
    """
    if pool is None:
        check_main("run_grid")
    grid = grid if isinstance(grid, Grid) else load_grid(grid, overrides)
    imports = tuple(dict.fromkeys([*imports, *grid.imports]))
    work = _Work(grid, expanded(prefix), processes, announce or log.info, foretell, imports, retry)
    work.began = began
    work.size = cohort if processes == 1 else 1
    if pool is None:
        pool = work.plan(jobs, threads)
    else:
        work.at_once, work.here = jobs, False
    with stopping.watched(), pool:
        return work.run(pool)


class _Work:
    """The runs of a grid, in one part after the other: those of each round of trials, where it tunes its methods, then its cells.

    Args:
        grid, prefix, processes, announce, foretell, imports, retry: of :func:`run_grid`.
    """

    def __init__(
        self,
        grid: Grid,
        prefix: str,
        processes: int,
        announce: Callable[[str], None],
        foretell: Callable[[str], None] | None,
        imports: tuple[str, ...],
        retry: bool,
    ) -> None:
        self.grid, self.prefix, self.processes, self.imports, self.retry = grid, prefix, processes, imports, retry
        self.announce, self.foretell = announce, foretell
        self.folder = Path(prefix) / grid.name
        self.tasks = make_tasks(grid, prefix, processes)
        for task in self.tasks:  # a package that is missing would fail every one of them
            check_trackers(task.cfg)
        self.began: Callable[[Callable[[], float | None]], None] | None = None
        self.tuned = planned_cells(self._without_done(), prefix, processes)
        self.under_way: list[Task] = []  # of the part that is carried out
        self.size, self.at_once, self.packed, self.here = AUTO, 0, False, True
        if retry:
            clear_failures(self.folder, [task.key for task in self.tasks])

    def _without_done(self) -> Grid:
        """The grid without those tuned cells whose runs an earlier command has done."""
        cells = earlier_record(self.folder).get("cells", [])
        done = {(cell["pair"], cell["method"], cell.get("seed")) for cell in cells if cell["run"]}
        left = [entry for entry in self.grid.open if (entry[0].pair, entry[0].method, entry[0].seed) not in done]
        return replace(self.grid, open=tuple(left))

    def _outlook(self, tasks: list[Task]) -> Outlook:
        # of other machines' GPUs nothing is known
        return Outlook(tasks, self.prefix, self.processes, lambda: device_of(tasks) if self.here else "")

    def plan(self, jobs: int, threads: int) -> LocalPool:
        """This machine's workers."""
        tasks = [*self.tasks, *planned_trials(self.grid, self.prefix, self.processes), *self.tuned]
        pack = use_gpus(tasks)
        plan = plan_workers(len(tasks), jobs=jobs, threads=threads, processes=self.processes, pack=pack)
        self.at_once, self.packed = plan.fill, plan.packed
        return _local_pool(plan, self._outlook(tasks), self.folder, self.under_way, self.processes)

    def run(self, pool: Pool) -> GridReport:
        """All parts; see :func:`run_grid`."""
        if self.grid.sweep is not None:
            say = self.foretell or log.info
            tuning = Tuning(self.grid, self.folder, self.prefix, self.processes, self.retry, say)
            self.grid = tuning.run(lambda *part: self._trials(pool, *part), self._write)
            self.tasks = make_tasks(self.grid, self.prefix, self.processes)
            if self.retry:
                clear_failures(self.folder, [task.key for task in self.tasks])
        runner = self._begin(self.grid, self.tasks, [])
        runner.write_record()
        try:
            runner.run(pool)
        except RunStoppedError:
            runner.write_record()
            raise
        runner.write_record()
        not_tuned = {cell.label: error for cell, error in self.grid.open}
        return GridReport(self.folder, runner.results, runner.failed | not_tuned)

    def _trials(self, pool: Pool, part: Grid, tasks: list[Task], done: int) -> Runner:
        """Carry out the runs of a round of trials, after which each method has ``done`` of them behind it."""
        known = read_states(self.folder)
        later = [task for task in self.tasks if not task.trains and task.key not in known]
        later += [*planned_trials(self.grid, self.prefix, self.processes, done=done), *self.tuned]
        runner = self._begin(part, tasks, later, validation_text)
        runner.run(pool)
        return runner

    def _begin(
        self, part: Grid, tasks: list[Task], later: list[Task], told: Callable[[RunResult], str] = accuracy_text
    ) -> Runner:
        """What hands out a part's runs; a line says what they and those that come later cost."""
        self.under_way[:] = tasks
        outlook = self._outlook([*tasks, *later])
        kinds: Mapping[int, Kind] = outlook.kinds if self.packed else {}
        runner = Runner(
            part, tasks, self.folder, self.announce, self.imports, self.processes, self.size, self.at_once, kinds, told
        )
        to_do = [*runner.to_do(), *range(len(tasks), len(tasks) + len(later))]
        if self.foretell is not None and (line := outlook.line(to_do, size=self.size, workers=self.at_once)):
            self.foretell(line)
        if self.began is not None:
            self.began(runner.clock.left)
        return runner

    def _write(self, grid: Grid) -> None:
        """What table and status need to know of a grid whose trials are under way."""
        tasks = make_tasks(grid, self.prefix, self.processes)
        write_grid_record(self.folder, compose(grid, tasks, {}, {}, given_weights(grid)))


def _local_pool(plan: Workers, outlook: Outlook, folder: Path, tasks: Sequence[Task], processes: int) -> LocalPool:
    """The pool of this machine; on GPUs with what is known of memory, and with a look at what runs note of theirs."""
    if not plan.packed:
        return LocalPool(plan.jobs, plan.threads, gpus_each=processes)
    gpus = visible_gpus()

    def look(group: list[int]) -> list[dict[str, Any]]:
        return [read_lock(folder / STATE_DIR / f"{tasks[number].key}.lock") or {} for number in group]

    memory = [card.total for card in query_cards(gpus)]
    return LocalPool(plan.jobs, plan.threads, gpus, memory=memory, measures=outlook.memory(), look=look)
