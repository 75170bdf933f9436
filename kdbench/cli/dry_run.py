"""``kdbench grid --dry-run``: the cells of a grid, what they cost, and their configurations."""

from __future__ import annotations

import argparse
from typing import Any

from kdbench.escape import visible


def dry_run(file: str, args: argparse.Namespace) -> int:
    """Print cells, images, time and disk; write the configurations where asked.

    Raises:
        ConfigError: the grid is wrong.
    """
    from kdbench.bench.grids.grid_file import load_grid
    from kdbench.bench.grids.tasks import make_tasks, write_configs
    from kdbench.bench.running.sweep.planned import contests, planned_cells, planned_trials

    grid = load_grid(file, args.opts)
    for cell in [*grid.cells, *(cell for cell, _ in grid.open)]:
        print(visible(cell.label))
    tasks = make_tasks(grid, args.prefix, args.processes)
    own = sum(bool(task.trains) for task in tasks)
    trials, tuned = (make(grid, args.prefix, args.processes) for make in (planned_trials, planned_cells))
    images = sum(task.images for task in (*tasks, *trials, *tuned))
    runs = f"{len(tasks)} runs ({own} of teachers)"
    if grid.sweep is not None:
        count = len(contests(grid)) * grid.sweep.trials
        runs = (
            f"at most {len(tasks) + len(trials) + len(tuned)} runs ({own} of teachers; {len(trials)} of {count} trials, "
            f"{grid.sweep.trials} for each method and pair, which share those of equal values; {len(tuned)} with chosen values)"
        )
    count = sum(not teacher.parts for teacher in grid.teachers.values())
    print(f"{len(grid.cells) + len(grid.open)} cells, {count} teacher{'s' * (count != 1)}: {runs}")
    print(f"{images / 1e6:,.1f} million training images", flush=True)
    if args.write_configs:
        print(f"{len(write_configs(tasks, args.write_configs))} configurations written to {args.write_configs}")
        if grid.sweep is not None:
            print("those of trials and tuned cells are not known before the trials are asked for")
    if args.no_probe:
        print("time and disk were not measured (--no-probe)")
    else:
        _costs(grid, args.prefix, args.processes)
    return 0


def _costs(grid: Any, prefix: str, processes: int) -> None:
    from kdbench.bench.running.estimate import BATCHES, cache_bytes, estimate

    def announce(label: str, number: int, count: int) -> None:
        print(f"[{number}/{count}] measuring {visible(label)}", flush=True)

    print(
        f"from finished runs below {prefix}; of kinds without any, timing two short runs on random data, batches of {BATCHES[0]} "
        f"and {BATCHES[1]} (--no-probe skips this):"
    )
    found = estimate(grid, prefix, announce=announce, processes=processes)
    seconds = size = 0.0
    for one in found:
        each = f"{one.seconds / 3600:.2f} h" if one.seconds is not None else f"unknown: {visible(one.reason)}"
        source = f" ({one.source})" if one.source else ""
        print(f"{one.runs:>4} x {visible(one.label)}: {each}{source}, {one.size / 1e6:.1f} MB")
        seconds += one.runs * (one.seconds or 0.0)
        size += one.runs * one.size
    unknown = sum(one.runs for one in found if one.seconds is None)
    cache = cache_bytes(found, max(cell.cfg.CACHE.MAX_GB for cell in grid.cells))
    size += cache
    print(
        f"total: {seconds / 3600:,.1f} worker-hours on this machine (evaluation not counted) and {size / 1e9:.2f} GB of disk"
        + (f", {cache / 1e9:.2f} GB of it for the teacher cache" if cache else "")
        + (f"; {unknown} runs could not be measured and are not included" if unknown else "")
    )
