"""What a grid will cost, said before it starts, from runs that have finished."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from yacs.config import CfgNode

from kdbench.bench.grids.tasks import Task
from kdbench.bench.machine.cards import RESERVED
from kdbench.bench.machine.speeds import Kind, Speed, Speeds, device_here, kind_of
from kdbench.bench.machine.time_left import duration
from kdbench.bench.running.cohorts import put_together
from kdbench.config.load import to_dict


@dataclass(frozen=True)
class Forecast:
    """Of runs that are still to do: their number and that of the workers (0 = not known); of those whose speed is known, the
    seconds until all are done, or of one worker where their number is not known, and bytes on disk; how many runs are not known,
    how many are taken to cost what another method of their pair does; the largest number that are trained together."""

    runs: int
    workers: int
    seconds: float
    size: float
    unknown: int
    nearest: int
    together: int

    @property
    def line(self) -> str:
        """In one line."""
        head = f"{self.runs} run{'s' * (self.runs != 1)} to do"
        if self.workers:
            head += (
                f", {self.workers} at a time" if self.together < 2 else f", {self.workers} cohorts or runs at a time"
            )
        if self.unknown == self.runs:
            return f"{head}: time not known, no such run has finished on this device (--dry-run measures)"
        least = "at least" if self.unknown else "about"
        unit = "" if self.workers else " of one worker"
        words = [f"{head}: {least} {duration(self.seconds)}{unit}, {self.size / 1e6:,.1f} MB, as finished runs took"]
        if self.nearest:
            words.append(f"{self.nearest} taken as the slowest other method of their pair")
        if self.together > 1:
            words.append(f"up to {self.together} together, each with a pass of its teacher")
        if self.unknown:
            words.append(f"{self.unknown} of unknown cost not counted (--dry-run measures)")
        return "; ".join(words) + "; evaluation not counted"


def forecast(
    tasks: Mapping[int, Task], kinds: Mapping[int, Kind], speeds: Speeds, *, size: int, workers: int
) -> Forecast:
    """Add up runs as the grid will carry them out: teachers, then what learns from them.

    What is not known is counted high: runs that share a teacher's pass are counted with one each on a CPU, runs that share a GPU by
    memory one after another, and a run is counted as the slowest method of its pair where none of its own has finished.

    Args:
        tasks: that are still to do, by number.
        kinds: of them.
        speeds: of finished runs.
        size: largest number of runs that are trained together, see :func:`kdbench.bench.running.cohorts.cohort_size`.
        workers: runs or cohorts at a time; 0 = not known.
    """
    known: dict[int, Speed] = {}
    nearest = 0
    for number in tasks:
        speed, near = speeds.of(kinds[number]), speeds.nearest(kinds[number])
        if speed is None and near is not None:
            speed, nearest = near[1], nearest + 1
        if speed is not None:
            known[number] = speed
    cfgs = {number: _with_some_teacher(task) for number, task in tasks.items()}
    groups = put_together({n: cfg for n, cfg in cfgs.items() if not tasks[n].trains}, size, workers or 1)
    teachers = [_seconds([number], tasks, known) for number, task in tasks.items() if task.trains]
    others = [_seconds([n for n in group if n in known], tasks, known) for group in groups]
    return Forecast(
        len(tasks),
        workers,
        _until_done(teachers, workers or 1) + _until_done(others, workers or 1),
        sum(speed.size for speed in known.values()),
        len(tasks) - len(known),
        nearest,
        max(map(len, groups), default=1),
    )


def _seconds(group: Sequence[int], tasks: Mapping[int, Task], known: Mapping[int, Speed]) -> float:
    """Of runs that are trained together, or of one by itself."""
    images = {n: tasks[n].images or known[n].images * tasks[n].cfg.SOLVER.EPOCHS for n in group if n in known}
    if len(images) == 1:
        ((number, count),) = images.items()
        return known[number].alone * count
    once = max((known[n].once * count for n, count in images.items()), default=0.0)
    return once + sum(known[n].within * count for n, count in images.items())


def _until_done(costs: Iterable[float], workers: int) -> float:
    """Seconds until the last is over, where each begins as soon as a worker is idle."""
    busy = [0.0] * workers
    for cost in costs:
        heapq.heappush(busy, heapq.heappop(busy) + cost)
    return max(busy)


def _with_some_teacher(task: Task) -> CfgNode:
    """The configuration of a run whose teacher's weights are perhaps not there yet: its name stands for them."""
    if task.teacher is None:
        return task.cfg
    weights = [one.weights or one.name for one in task.teacher.each]
    return task.config(weights if len(weights) > 1 else weights[0])


def use_gpus(tasks: Iterable[Task]) -> bool:
    """Whether some run may use a GPU, where there is one."""
    return any(not str(task.cfg.RUNTIME.DEVICE).startswith("cpu") for task in tasks)


def device_of(tasks: Iterable[Task]) -> str:
    """Name of the device of this machine that carries the runs out, see :func:`kdbench.bench.machine.speeds.device_here`."""
    return device_here() if use_gpus(tasks) else "cpu"


class Outlook:
    """What finished runs below a folder tell of the runs of a grid; looked up when it is first asked for.

    Args:
        tasks: the grid's.
        prefix: folder above the grid's own.
        processes: of each run.
        device: see :class:`kdbench.bench.machine.speeds.Speeds`; asked for when it is first needed.
    """

    def __init__(self, tasks: Sequence[Task], prefix: str, processes: int, device: Callable[[], str]) -> None:
        self.tasks, self.prefix, self.processes, self.device = tasks, prefix, processes, device

    @functools.cached_property
    def kinds(self) -> dict[int, Kind]:
        """Of each run."""
        return {number: kind_of(to_dict(_with_some_teacher(task))) for number, task in enumerate(self.tasks)}

    @functools.cached_property
    def speeds(self) -> Speeds:
        """Of the finished runs."""
        return Speeds(self.prefix, self.device(), self.processes, {task.cfg.DATASET.TYPE for task in self.tasks})

    def memory(self) -> dict[str, int]:
        """Bytes of a GPU that a run takes by its kind, as text, where that was recorded."""
        found = {str(kind): speed.gpu_bytes for kind, speed in self.speeds.by_kind.items()}
        return {kind: int(RESERVED * peak) for kind, peak in found.items() if peak}

    def line(self, numbers: Iterable[int], *, size: int, workers: int) -> str:
        """:attr:`Forecast.line` of these runs; empty where there are none."""
        tasks = {number: self.tasks[number] for number in numbers}
        return forecast(tasks, self.kinds, self.speeds, size=size, workers=workers).line if tasks else ""
