"""Smoke mode: every cell of a grid for two steps, with its real architectures and recipe, on random data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench.bench.grids.grid import Grid, taught_by
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.grids.tasks import used_teachers
from kdbench.bench.machine.workers import default_jobs
from kdbench.bench.running.pools.local_pool import LocalPool
from kdbench.bench.running.pools.pool import Outcome
from kdbench.bench.running.small_run import small_config, trained_small
from kdbench.errors import ConfigError


@dataclass
class SmokeReport:
    """What became of each run: seconds that it took (building, two steps, evaluation), or the reason why it failed."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every cell ran."""
        return not self.failed


def smoke_configs(grid: Grid, *, batch: int = 2, steps: int = 2) -> dict[str, CfgNode]:
    """The configurations that :func:`smoke` runs, by label: a teacher's or a cell's for one seed, equal ones once."""
    configs: dict[str, CfgNode] = {}
    seen: set[str] = set()
    pairs = [
        (f"teacher {t.name}", taught_by(t.cfg, grid.teachers.get(t.above), ""))
        for t in used_teachers(grid)
        if t.cfg is not None
    ]
    pairs += [
        (f"{c.method} {c.pair}", c.with_teacher(grid.teachers.get(c.teacher) if c.teacher else None, ""))
        for c in grid.cells
    ]
    for label, cfg in pairs:
        small = small_config(cfg, batch=batch, steps=steps)
        text = small.dump()
        if text not in seen:
            seen.add(text)
            configs[label] = small
    return configs


def smoke(
    grid: str | Path | Grid,
    *,
    batch: int = 2,
    jobs: int = 0,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    imports: tuple[str, ...] = (),
    only: str = "",
    announce: Callable[[str], None] | None = None,
) -> SmokeReport:
    """Run every cell of a grid for two steps. Teachers have fresh weights and pass no gate; nothing is kept.

    Args:
        grid: its file, or resolved.
        batch: samples of a step.
        jobs: worker processes; 0 = one per GPU, or per core.
        overrides: put over every cell.
        imports: modules that workers import first.
        only: run the cells whose label holds this text.
        announce: called with one line a run.

    Raises:
        KdbenchError: the grid is wrong.
    """
    loaded = grid if isinstance(grid, Grid) else load_grid(grid, overrides, seeds=1, weights=False)
    imports = tuple(dict.fromkeys([*imports, *loaded.imports]))
    configs = {k: v for k, v in smoke_configs(loaded, batch=batch).items() if only in k}
    if not configs:
        raise ConfigError(f"no cell's label holds {only!r}")
    report, say = SmokeReport(), announce or (lambda line: None)
    auto_jobs, threads = default_jobs()
    workers = min(jobs or auto_jobs, len(configs))
    alone: dict[str, CfgNode] = {}
    for label, outcome in _outcomes(configs, workers, threads, imports):
        if outcome.died and workers > 1:  # two large networks may not fit into the memory at once: no fault of the cell
            alone[label] = configs[label]
            say(f"{label}  {outcome.error}; again, alone, at the end")
        else:
            _note(report, label, outcome, len(configs), say)
    for label, outcome in _outcomes(alone, 1, threads, imports):
        _note(report, label, outcome, len(configs), say)
    return report


def _outcomes(
    configs: Mapping[str, CfgNode], jobs: int, threads: int, imports: tuple[str, ...]
) -> Iterator[tuple[str, Outcome]]:
    todo = list(configs)[::-1]
    with LocalPool(jobs, threads) as pool:
        while todo or pool.is_busy:
            while todo and pool.has_room:
                label = todo.pop()
                pool.start(label, run_small, configs[label], imports)
            yield from pool.finished()


def _note(report: SmokeReport, label: str, outcome: Outcome, total: int, say: Callable[[str], None]) -> None:
    number = len(report.seconds) + len(report.failed) + 1
    if outcome.error:
        report.failed[label] = outcome.error
    else:
        report.seconds[label] = outcome.value
    tail = f"FAILED: {outcome.error}" if outcome.error else f"{outcome.value:.1f} s"
    say(f"[{number}/{total}] {label}  {tail}")


def run_small(cfg: CfgNode, imports: tuple[str, ...] = ()) -> float:
    """Train in a folder that is thrown away; returns the seconds that it took."""
    if imports:
        from kdbench.plugins import import_plugins

        import_plugins(imports)
    started = time.perf_counter()
    with trained_small(cfg):
        return time.perf_counter() - started
