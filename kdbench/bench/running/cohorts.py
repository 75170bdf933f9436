"""Which runs of a grid are trained together, in one process on one pass of their teacher."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from yacs.config import CfgNode

from kdbench.config.cohort import shared_settings, teacher_settings
from kdbench.errors import ConfigError

#: ``--cohort auto``: as many as there are, divided so that no worker is idle
AUTO = 0


def cohort_size(word: str) -> int:
    """The largest number of runs that ``--cohort`` lets train together: :data:`AUTO`, 1 for ``off``, or the number itself.

    Raises:
        ConfigError: none of these.
    """
    named = {"auto": AUTO, "off": 1}
    if word.lower() in named:
        return named[word.lower()]
    if not word.isdecimal() or int(word) < 1:
        raise ConfigError(f"--cohort expects auto, off or a number of runs, got {word!r}")
    return int(word)


def put_together(ready: Mapping[int, CfgNode], size: int, workers: int) -> list[list[int]]:
    """Runs that may begin, as groups that see the same batches and the same teacher.

    Runs without a teacher join the first group with their batches. Of one group all train together, up to ``size``; under
    :data:`AUTO` a group is divided where there are fewer groups than workers.

    Args:
        ready: configurations by number, in the order in which they are to begin.
        size: of :func:`cohort_size`.
        workers: processes that carry out groups.
    """
    if size == 1:
        return [[number] for number in ready]
    by_batches: dict[str, dict[str, list[int]]] = {}
    for number, cfg in ready.items():
        batches, teacher = (json.dumps(part(cfg), sort_keys=True) for part in (shared_settings, teacher_settings))
        by_batches.setdefault(batches, {}).setdefault(teacher, []).append(number)
    groups: list[list[int]] = []
    nobody = json.dumps({})
    for by_teacher in by_batches.values():
        untaught = by_teacher.pop(nobody, [])
        found = list(by_teacher.values()) or [[]]
        found[0] = sorted([*found[0], *untaught])
        groups += found
    groups.sort(key=min)
    parts = math.ceil(workers / len(groups)) if groups and size == AUTO else 1
    return [piece for group in groups for piece in _divided(group, size or math.ceil(len(group) / parts))]


def _divided(group: Sequence[int], size: int) -> list[list[int]]:
    return [list(group[i : i + size]) for i in range(0, len(group), size)]
