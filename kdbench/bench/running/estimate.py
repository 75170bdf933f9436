"""What each kind of run of a grid will cost: seconds of this machine, and disk; from finished runs or from probes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from kdbench.bench.grids.grid import Grid
from kdbench.bench.grids.state import finished_run, read_states
from kdbench.bench.grids.tasks import Task, make_tasks
from kdbench.bench.machine.speeds import is_from
from kdbench.bench.results.run_files import timing_of
from kdbench.bench.running.forecast import Outlook, device_of
from kdbench.bench.running.small_run import small_config, trained_small
from kdbench.bench.running.sweep.planned import planned_cells, planned_trials
from kdbench.data.teacher_cache.cache import META, TeacherCache, ViewShape, cache_folders, cache_root
from kdbench.engine.training.saving.checkpoint import load_checkpoint
from kdbench.errors import KdbenchError
from kdbench.models.names import canonical_name

#: samples of the two probes' steps
BATCHES = (2, 8)
_STEPS = 2


@dataclass(frozen=True)
class Estimate:
    """Of one kind of run (a method on a pair): how many there are, and of one of them seconds and bytes.

    ``seconds`` is None where they are not known; ``reason`` then says why. ``finished`` runs were measured whole, ``source`` says
    which; without any, two probes were. ``caches`` are the bytes of stored teacher outputs by what they are shared under, where a
    probe or an earlier cache told the size of a row.
    """

    label: str
    runs: int
    images: int
    seconds: float | None = None
    size: int = 0
    reason: str = ""
    finished: int = 0
    source: str = ""
    caches: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Probe:
    """A short run: samples of a step and of the training set, seconds of a step, bytes, the checkpoint's tensors of the method."""

    batch: int
    images: int
    step: float
    size: int
    tensors: Mapping[str, tuple[tuple[int, ...], int]]
    layout: ViewShape | None


def estimate(
    grid: Grid,
    prefix: str = "runs",
    *,
    announce: Callable[[str, int, int], None] | None = None,
    processes: int = 1,
) -> list[Estimate]:
    """Seconds and bytes of one run of each kind. Equal runs count once. Trials of a grid that tunes its methods count as runs with
    the published values, all of them.

    Where runs of a kind have finished in the grid's folder on this device, their own timings are taken; else the images per second
    of those of other grids below ``prefix``; else those of the slowest other method of the same pair. Otherwise two short runs on
    random data with batches of :data:`BATCHES` are measured, on this machine's device, and a step's cost ``a + b * batch`` is
    extrapolated to the real batch. Evaluation is not counted. A GPU that a large batch fills better is cheaper than that. A run is
    counted by itself, whatever may be trained together with it.

    Args:
        grid: resolved.
        prefix: folder above the grid's own.
        announce: called with label, number and count before each kind that is probed.
        processes: of each run: finished ones of another number are other runs.

    Raises:
        UnknownNameError: a method, network or data set is not registered.
    """
    tasks = make_tasks(grid, prefix, processes)
    tasks += [*planned_trials(grid, prefix, processes), *planned_cells(grid, prefix, processes)]
    device = device_of(tasks)
    outlook = Outlook(tasks, prefix, processes, lambda: device)
    kinds: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        label = task.label if task.trains else f"{task.cells[0].method} {task.cells[0].pair}"
        kinds.setdefault(label, []).append(number)
    folder = Path(prefix) / grid.name
    states = read_states(folder)
    found = []
    for place, (label, numbers) in enumerate(kinds.items(), 1):
        alike = [tasks[number] for number in numbers]
        learnt = _from_finished(label, alike, folder, states, device) or _from_others(label, alike, outlook, numbers[0])
        if learnt is None and announce is not None:
            announce(label, place, len(kinds))
        found.append(learnt or _from_probes(label, alike))
    return found


def cache_bytes(found: list[Estimate], budget: float) -> int:
    """Stored teacher outputs of a grid: what equal runs share counts once; never above the budget (in GB)."""
    shared: dict[str, int] = {}
    for one in found:
        shared |= one.caches
    return min(sum(shared.values()), int(budget * 1e9))


def _from_finished(
    label: str, tasks: list[Task], folder: Path, states: dict[str, dict[str, Any]], device: str
) -> Estimate | None:
    seconds, sizes = [], []
    for task in tasks:
        result = finished_run(folder, task.key, states, task.asked)
        timing = (
            timing_of(result.folder, filling=True) if result is not None and is_from(result.environment, device) else {}
        )
        if result is not None and "seconds_per_epoch" in timing:
            seconds.append(timing["seconds_per_epoch"] * task.cfg.SOLVER.EPOCHS)
            sizes.append(_folder_size(Path(result.folder)))
    if not seconds:
        return None
    means = float(np.mean(seconds)), int(np.mean(sizes))
    count, caches = len(seconds), _caches(tasks, _recorded_layout(tasks[0]))
    source = f"from {count} finished"
    return Estimate(label, len(tasks), tasks[0].images, *means, finished=count, source=source, caches=caches)


def _from_others(label: str, tasks: list[Task], outlook: Outlook, number: int) -> Estimate | None:
    """From runs of other grids, or of another method of the pair."""
    kind = outlook.kinds[number]
    speed, near = outlook.speeds.of(kind), outlook.speeds.nearest(kind)
    if speed is not None:
        source = f"from {speed.runs} finished below {outlook.prefix}"
    elif near is not None:
        method, speed = near
        source = f"as {method} on this pair, from {speed.runs} finished"
    else:
        return None
    images = tasks[0].images or round(speed.images * tasks[0].cfg.SOLVER.EPOCHS)
    seconds, size, caches = speed.alone * images, int(speed.size), _caches(tasks, _recorded_layout(tasks[0]))
    return Estimate(label, len(tasks), images, seconds, size, finished=speed.runs, source=source, caches=caches)


def _from_probes(label: str, tasks: list[Task]) -> Estimate:
    task = tasks[0]
    images = task.images
    cfg = task.config()
    real = cfg.SOLVER.BATCH_SIZE
    try:
        probes = [_measure(cfg, batch) for batch in dict.fromkeys(min(b, real) for b in BATCHES)]
    except KdbenchError as error:
        return Estimate(label, len(tasks), images, reason=str(error))
    size = _size_at(probes, real, task.samples)
    caches = _caches(tasks, probes[-1].layout)
    if not images:
        return Estimate(label, len(tasks), images, size=size, reason="the data set's size is not known", caches=caches)
    seconds = images / real * line_through([(p.batch, p.step) for p in probes], real)
    return Estimate(label, len(tasks), images, seconds, size, caches=caches)


def line_through(points: list[tuple[float, float]], at: float) -> float:
    """The value at ``at`` of the line through two points, which does not fall (a step of more samples is no cheaper); of one point,
    its own."""
    (x, y), (other, value) = points[0], points[-1]
    slope = max(0.0, (value - y) / (other - x)) if other != x else 0.0
    return value + slope * (at - other)


def _measure(cfg: CfgNode, batch: int) -> _Probe:
    small = small_config(cfg, batch=batch, steps=_STEPS, epochs=2)
    small.defrost()
    small.CACHE.ENABLED, small.CACHE.DIR = cfg.CACHE.ENABLED, ""
    small.freeze()
    with trained_small(small) as folder:
        rate = timing_of(folder, filling=True).get("images_per_second", 0.0)
        state = load_checkpoint(folder / "checkpoint.pt") or {"distiller": {}}
        tensors = {k: (tuple(t.shape), t.element_size()) for k, t in state["distiller"].items()}
        metas = [json.loads(file.read_text("utf-8")) for file in folder.parents[1].rglob(META)]
        layout = ViewShape(**metas[0]["layout"]) if metas else None
        return _Probe(batch, batch * _STEPS, batch / max(rate, 1e-9), _folder_size(folder), tensors, layout)


def _size_at(probes: list[_Probe], batch: int, images: int) -> int:
    """Bytes of the real run's folder: the probe's, with what grows with the training set (memory banks) or with the batch grown."""
    first, last = probes[0], probes[-1]
    size = float(last.size)
    for name, (shape, width) in last.tensors.items():
        before = first.tensors.get(name, ((), 0))[0]
        if not shape or not before or before[0] == shape[0]:
            continue
        row = math.prod(shape[1:]) * width
        if (before[0], shape[0]) == (first.images, last.images):
            size += row * max(0, images - last.images)
        elif (before[0], shape[0]) == (first.batch, last.batch):
            size += row * (batch - last.batch)
    return int(size)


def _caches(tasks: list[Task], layout: ViewShape | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for task in tasks:
        cfg = task.cfg
        if layout is None or task.teacher is None:
            continue
        rows = task.epoch_length
        view = ViewShape(rows, layout.classes, layout.width, layout.dtype).view_bytes
        seed = cfg.DATASET.AUG_SEED if cfg.DATASET.AUG_SEED >= 0 else cfg.EXPERIMENT.SEED
        shared = json.dumps([task.teacher.name, seed, str(cfg.DATASET), str(cfg.AUGMENT), cfg.SOLVER.BATCH_SIZE])
        found[shared] = (cfg.CACHE.VIEWS or cfg.SOLVER.EPOCHS) * view
    return found


def _recorded_layout(task: Task) -> ViewShape | None:
    """A row of the teacher's outputs as an earlier run stored them; None where the cache is off, or holds none of this teacher."""
    if task.teacher is None or not task.cfg.CACHE.ENABLED:
        return None
    name = canonical_name(task.teacher.network)
    for folder in cache_folders(cache_root(task.cfg)):
        try:
            meta = TeacherCache(folder.parent, folder.name, 0).read_meta() or {}
            if meta["key"]["teacher"]["name"] == name and meta["key"]["dtype"] == task.cfg.CACHE.DTYPE:
                return ViewShape(**meta["layout"])
        except (KeyError, TypeError):
            continue  # of another version
    return None


def _folder_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
