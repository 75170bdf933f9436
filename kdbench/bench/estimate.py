"""What a grid will cost: seconds of this machine, and disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kdbench.bench.known_data import DATASETS
from kdbench.bench.plan import Grid
from kdbench.bench.smoke import run_small, small_config
from kdbench.bench.tasks import Task, make_tasks
from kdbench.errors import KdbenchError


@dataclass(frozen=True)
class Estimate:
    """Of one kind of run (a method on a pair): how many there are, and of one of them seconds and bytes.

    ``seconds`` is None where it could not be measured; ``reason`` then says why.
    """

    label: str
    runs: int
    images: int
    seconds: float | None = None
    size: int = 0
    reason: str = ""


def estimate(grid: Grid, *, batch: int = 8, announce: Callable[[str], None] | None = None) -> list[Estimate]:
    """Measure one run of each kind on random data and scale it to its images and epochs.

    The probe takes steps of at most ``batch`` samples, on this machine's device, evaluation not counted: a rough figure, and
    too high for a GPU that a larger batch fills better. Equal runs count once.
    """
    kinds: dict[str, list[Task]] = {}
    for task in make_tasks(grid, "runs"):
        label = task.label if task.trains else f"{task.cells[0].method} {task.cells[0].pair}"
        kinds.setdefault(label, []).append(task)
    found = []
    for label, tasks in kinds.items():
        found.append(_probe(label, tasks, batch))
        if announce is not None:
            announce(label)
    return found


def images_of(task: Task) -> int:
    """Training images that a run sees, all epochs together; 0 where the data set's size is not known."""
    node = task.cfg.DATASET
    classes, _, count = DATASETS.get(node.TYPE.casefold(), (0, 0, 0))
    if node.TYPE.casefold() == "fake":
        count = node.OPTIONS.get("train", 256)
    if node.PER_CLASS:
        count = min(count, node.PER_CLASS * classes)
    return int(count * (1 - node.VAL_FRACTION)) * node.REPEAT * task.cfg.SOLVER.EPOCHS


def _probe(label: str, tasks: list[Task], batch: int) -> Estimate:
    task = tasks[0]
    images = images_of(task)
    cfg = task.cells[0].with_teacher(task.teacher, "") if task.cells else task.cfg
    small = small_config(cfg, batch=min(batch, cfg.SOLVER.BATCH_SIZE), steps=2, epochs=2)
    try:
        _, rate, size = run_small(small)
    except KdbenchError as error:
        return Estimate(label, len(tasks), images, reason=str(error))
    if not images or not rate:
        return Estimate(label, len(tasks), images, size=size, reason="the data set's size is not known")
    return Estimate(label, len(tasks), images, images / rate, size)
