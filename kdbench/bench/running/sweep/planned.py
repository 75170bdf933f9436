"""Runs of trials and of tuned cells, before their values are known: what a forecast counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kdbench.bench.grids.grid import Grid, tuned_label
from kdbench.bench.grids.tasks import Task, make_tasks


def contests(grid: Grid) -> list[tuple[str, str]]:
    """(pair, label) of every method that the grid tunes, in its order."""
    swept = grid.sweep.spaces if grid.sweep is not None else {}
    return list(dict.fromkeys((cell.pair, cell.method) for cell in grid.cells if cell.method in swept))


def planned_trials(grid: Grid, prefix: str, processes: int = 1, *, done: int = 0) -> list[Task]:
    """A run for each seed of each trial, with the published values; as many as there can be. Trials that try the same values
    share their runs, so that there may be fewer.

    Args:
        grid: resolved.
        prefix, processes: as of :func:`kdbench.bench.grids.tasks.make_tasks`.
        done: trials of each method to leave out.
    """
    sweep = grid.sweep
    if sweep is None:
        return []
    cells = [[sweep.resolve(*place, seed, {}) for seed in sweep.seeds] for place in contests(grid)]
    tasks = [task for part in cells for task in _tasks(replace(grid, cells=part), prefix, processes)]
    return [replace(task, key=f"{task.key}-{n}") for n in range(done, sweep.trials) for task in tasks]


def planned_cells(grid: Grid, prefix: str, processes: int = 1) -> list[Task]:
    """A run for each cell whose values are not chosen yet, with the published ones, and under the name of its method: so that it
    is one kind of run with those."""
    names = {tuned_label(label): label for _, label in contests(grid)}
    cells = [replace(cell, method=names[cell.method]) for cell, _ in grid.open]
    tasks = [task for cell in cells for task in _tasks(replace(grid, cells=[cell]), prefix, processes)]
    return [replace(task, key=f"{task.key}-tuned") for task in tasks]


def _tasks(grid: Grid, prefix: str, processes: int) -> Iterator[Task]:
    return (task for task in make_tasks(grid, prefix, processes) if not task.trains)
