"""This project's own figures of one cell, and the gain of one cell over another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ours:
    """Own figures of a cell.

    Attributes:
        values: by seed; of the teacher itself, by its weights.
        by_seed: how each run's recipe differs from the declared one; empty where it does not.
        teachers: hash of the teacher's weights by seed.
        checked: whether there was a declared recipe to compare with.
        made_in: environment of each run by seed.
    """

    values: dict[Any, float]
    by_seed: Mapping[Any, tuple[str, ...]] = field(default_factory=dict)
    teachers: Mapping[Any, str] = field(default_factory=dict)
    checked: bool = True
    made_in: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return math.fsum(self.values.values()) / self.n

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds (ddof 1); None for one seed."""
        if self.n < 2:
            return None
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values.values()) / (self.n - 1))

    @property
    def deviations(self) -> tuple[str, ...]:
        """How the runs' recipes differ from the declared one, all seeds together."""
        return tuple(dict.fromkeys(line for lines in self.by_seed.values() for line in lines))

    @property
    def teacher_count(self) -> int:
        """Number of different teachers' weights behind its runs."""
        return len(set(self.teachers.values()))

    def text(self) -> str:
        """``mean ± sd (n)``; ``n/a`` stands for the sd of a single seed."""
        spread = "n/a" if self.sd is None else f"{self.sd:.2f}"
        return f"{self.mean:.2f} ± {spread} ({self.n})"


@dataclass(frozen=True)
class OwnGain:
    """A gain, or None with the reason; ``deviations`` are those that both sides share."""

    value: float | None = None
    note: str = ""
    deviations: tuple[str, ...] = ()


def paired_gain(ours: Ours | None, base: Ours | None) -> OwnGain:
    """Mean difference over the seeds that both have under one recipe and one teacher; a gain between two recipes or two teachers
    would be no gain of the method."""
    if ours is None or base is None:
        return OwnGain()
    shared = sorted(set(ours.values) & set(base.values))
    same = [s for s in shared if set(ours.by_seed.get(s, ())) == set(base.by_seed.get(s, ()))]
    used = [s for s in same if ours.teachers.get(s, "") == base.teachers.get(s, "")]
    if not used:
        note = "" if not shared else _APART if not same else _TEACHERS
        return OwnGain(note=note)
    value = math.fsum(ours.values[s] - base.values[s] for s in used) / len(used)
    left = f"own gain of {len(used)} of {len(shared)} seeds: {_REST}" if len(used) < len(shared) else ""
    return OwnGain(value, left, tuple(dict.fromkeys(line for s in used for line in ours.by_seed.get(s, ()))))


_REST = "in the others the two sides differ in recipe or teacher"
_APART = "no own gain: one side was run under another recipe than the other"
_TEACHERS = "no own gain: the two sides learned from different teachers"
