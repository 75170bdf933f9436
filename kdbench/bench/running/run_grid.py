"""Run a grid: teachers first, each cell as soon as its teacher is there, finished runs never again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench import stopping
from kdbench.bench.grids.grid import Grid
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.grids.lock import STATE_DIR, read_lock
from kdbench.bench.grids.state import clear_failures
from kdbench.bench.grids.tasks import Task, make_tasks
from kdbench.bench.machine.cards import query_cards
from kdbench.bench.machine.speeds import Kind
from kdbench.bench.machine.workers import Workers, plan_workers, visible_gpus
from kdbench.bench.running.cohorts import AUTO
from kdbench.bench.running.forecast import Outlook, device_of, use_gpus
from kdbench.bench.running.pools.local_pool import LocalPool
from kdbench.bench.running.pools.pool import Pool
from kdbench.bench.running.runner import Runner
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
        KdbenchError: the grid is wrong; nothing was run.
        RunStoppedError: a signal asked this process to stop; what was under way is saved.
    """
    grid = grid if isinstance(grid, Grid) else load_grid(grid, overrides)
    imports = tuple(dict.fromkeys([*imports, *grid.imports]))
    prefix = expanded(prefix)
    folder = Path(prefix) / grid.name
    tasks = make_tasks(grid, prefix, processes)
    for task in tasks:  # a package that is missing would fail every one of them
        check_trackers(task.cfg)
    if retry:
        clear_failures(folder, [task.key for task in tasks])
    size, at_once = cohort if processes == 1 else 1, jobs
    here = pool is None  # of other machines' GPUs nothing is known
    outlook = Outlook(tasks, prefix, processes, lambda: device_of(tasks) if here else "")
    kinds: Mapping[int, Kind] = {}
    if pool is None:
        pack = use_gpus(tasks)
        plan = plan_workers(len(tasks), jobs=jobs, threads=threads, processes=processes, pack=pack)
        at_once, kinds = plan.fill, outlook.kinds if plan.packed else {}
        pool = _local_pool(plan, outlook, folder, tasks, processes)
    runner = Runner(grid, tasks, folder, announce or log.info, imports, processes, size, at_once, kinds)
    if foretell is not None and (line := outlook.line(runner.to_do(), size=size, workers=at_once)):
        foretell(line)
    runner.write_record()
    if began is not None:
        began(runner.clock.left)
    try:
        with stopping.watched(), pool:
            runner.run(pool)
    except RunStoppedError:
        runner.write_record()
        raise
    runner.write_record()
    return GridReport(folder, runner.results, runner.failed)


def _local_pool(plan: Workers, outlook: Outlook, folder: Path, tasks: Sequence[Task], processes: int) -> LocalPool:
    """The pool of this machine; on GPUs with what is known of memory, and with a look at what runs note of theirs."""
    if not plan.packed:
        return LocalPool(plan.jobs, plan.threads, gpus_each=processes)
    gpus = visible_gpus()

    def look(group: list[int]) -> list[dict[str, Any]]:
        return [read_lock(folder / STATE_DIR / f"{tasks[number].key}.lock") or {} for number in group]

    memory = [card.total for card in query_cards(gpus)]
    return LocalPool(plan.jobs, plan.threads, gpus, memory=memory, measures=outlook.memory(), look=look)
