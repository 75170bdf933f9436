"""The kinds of accidents: how much of the time each has, and how many cases it has at least."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from soaking import crash_points, disk, images, kills, labels, ranks, signals, states, weights, writers, yaml_files
from soaking.place import Place, trained_methods
from soaking.verdict import Verdict

#: a case: a place, its number, draws
Case = Callable[[Place, int, random.Random], list[Verdict]]


class Kind(NamedTuple):
    """One kind.

    Args:
        title: in the table.
        case: one accident or a few.
        share: of the time, beside the other kinds'.
        least: cases that are tried however long it takes.
    """

    title: str
    case: Case
    share: float
    least: Callable[[Place], int]


def _fixed(count: int) -> Callable[[Place], int]:
    return lambda _: count


def _methods(_: Place) -> int:
    return len(trained_methods())


KINDS: dict[str, Kind] = {
    "kills": Kind("SIGKILL at random moments, all methods", kills.case, 12, _methods),
    "crash_points": Kind(
        "SIGKILL at each operation on a file", crash_points.case, 12, lambda place: len(crash_points.points(place))
    ),
    "signals": Kind("SIGTERM, SIGUSR1, SIGHUP, runs and grids", signals.case, 10, _methods),
    "states": Kind("damaged state files", states.case, 50, _fixed(500)),
    "weights": Kind("hostile and damaged weights", weights.case, 6, _fixed(100)),
    "images": Kind("every byte of a PNG, a JPEG and a WebP", images.case, 3, images.least),
    "yaml": Kind("hostile and damaged YAML", yaml_files.case, 5, _fixed(150)),
    "labels": Kind("labels in tables, statistics, pictures", labels.case, 4, _fixed(12)),
    "disk": Kind("full disks, outputs that fail", disk.case, 4, _fixed(20)),
    "writers": Kind("several processes at one run", writers.case, 4, _fixed(12)),
    "ranks": Kind("a dead or frozen process of two", ranks.case, 8, _fixed(4)),
}
