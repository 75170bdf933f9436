"""One cell of a comparison: the accuracies of its seeds, and what it gains over another cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cell:
    """Accuracies of one method on one pair.

    Attributes:
        values: percent by seed; of the teacher itself, by its weights.
        teachers: hash of the teacher's weights by seed; a student that was trained alone has none.
        by_seed: how each run's recipe differs from the declared one; empty where it does not.
        checked: whether there was a declared recipe to compare with.
        made_in: environment of each run by seed.
    """

    values: dict[Any, float]
    teachers: Mapping[Any, str] = field(default_factory=dict)
    by_seed: Mapping[Any, tuple[str, ...]] = field(default_factory=dict)
    checked: bool = True
    made_in: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return _mean(self.values.values())

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds (ddof 1); None for a single seed."""
        return _sd(self.values.values())

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
class Gain:
    """A mean of paired differences, or None with the reason.

    Attributes:
        value: mean of the differences.
        sd: their standard deviation (ddof 1); None for a single pair.
        n: number of pairs.
        note: why there is none, or which seeds were left out.
        deviations: deviations from the declared recipe that both sides share.
    """

    value: float | None = None
    sd: float | None = None
    n: int = 0
    note: str = ""
    deviations: tuple[str, ...] = ()


def paired_seeds(cell: Cell, base: Cell) -> list[Any]:
    """The seeds whose difference is the method's own: both sides ran them, under one recipe, and learned from the same weights,
    where both learned from any. A student that was trained alone has no teacher, and pairs with every run of its seed."""
    return [s for s in _shared(cell, base) if _one_recipe(cell, base, s) and _one_teacher(cell, base, s)]


def paired_differences(cell: Cell | None, base: Cell | None) -> dict[Any, float]:
    """``cell - base`` by seed, over :func:`paired_seeds`; none where one of the cells is missing."""
    if cell is None or base is None:
        return {}
    return {seed: cell.values[seed] - base.values[seed] for seed in paired_seeds(cell, base)}


def gain_over(cell: Cell | None, base: Cell | None) -> Gain:
    """What one cell gains over another: the mean difference over :func:`paired_seeds`."""
    if cell is None or base is None:
        return Gain()
    shared, used = _shared(cell, base), paired_differences(cell, base)
    if not used:
        apart = shared and not any(_one_recipe(cell, base, s) for s in shared)
        return Gain(note="" if not shared else _RECIPES if apart else _TEACHERS)
    note = f"own gain of {len(used)} of {len(shared)} seeds: {_REST}" if len(used) < len(shared) else ""
    deviations = tuple(dict.fromkeys(line for s in used for line in cell.by_seed.get(s, ())))
    return Gain(_mean(used.values()), _sd(used.values()), len(used), note, deviations)


_REST = "in the others the two sides differ in recipe or teacher"
_RECIPES = "no own gain: one side was run under another recipe than the other"
_TEACHERS = "no own gain: the two sides learned from different teachers"


def _shared(cell: Cell, base: Cell) -> list[Any]:
    return sorted(set(cell.values) & set(base.values))


def _one_recipe(cell: Cell, base: Cell, seed: Any) -> bool:
    return set(cell.by_seed.get(seed, ())) == set(base.by_seed.get(seed, ()))


def _one_teacher(cell: Cell, base: Cell, seed: Any) -> bool:
    mine, its = cell.teachers.get(seed, ""), base.teachers.get(seed, "")
    return not mine or not its or mine == its


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def _sd(values: Iterable[float]) -> float | None:
    numbers = list(values)
    if len(numbers) < 2:
        return None
    middle = _mean(numbers)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in numbers) / (len(numbers) - 1))
