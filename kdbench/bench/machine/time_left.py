"""The time that a grid still takes, learnt from its own runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class TimeLeft:
    """Learns seconds by kind from the runs that finish.

    Args:
        labels: for each run, what it is like, nearest first (its method on its pair, its pair, anything): where no run of the first
            has finished, it is taken to cost what those of the next do.
        workers: that carry runs or cohorts out at a time, at least; 0 = not known: then the pace so far is taken.
    """

    labels: Mapping[int, Sequence[str]]
    workers: int
    clock: Callable[[], float] = time.monotonic
    _seconds: dict[str, list[float]] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)
    _begun: dict[int, tuple[float, int]] = field(default_factory=dict)
    _spent: float = 0.0

    def __post_init__(self) -> None:
        self._open = set(self.labels)
        self._start = self.clock()

    def begin(self, numbers: Sequence[int]) -> None:
        """These runs begin, together."""
        for number in numbers:
            self._begun[number] = (self.clock(), len(numbers))

    def end(self, number: int, seconds: float = 0.0) -> None:
        """A run is over; ``seconds`` of a worker that it took, its share where it was not alone; 0 where it teaches nothing (it
        was done before, or failed)."""
        self._open.discard(number)
        self._begun.pop(number, None)
        self._spent += seconds
        for label in self.labels[number] if seconds else ():
            self._seconds.setdefault(label, []).append(seconds)

    def stop(self, numbers: Sequence[int]) -> None:
        """These runs are no longer under way, and wait again."""
        for number in numbers:
            self._begun.pop(number, None)

    def left(self) -> float | None:
        """Seconds until the last run is over; 0 when it is, None where nothing was learnt."""
        now, total, longest = self.clock(), 0.0, 0.0
        for number in self._open:
            expected = self._expected(number)
            if expected is None:
                return None
            begun, together = self._begun.get(number, (now, 1))
            rest = max(0.0, expected - (now - begun) / together)
            total += rest
            longest = max(longest, rest * together)
        if not self.workers:
            return total * (now - self._start) / self._spent if self._spent else None
        return max(longest, total / max(self.workers, self._at_work(now)))

    def _at_work(self, now: float) -> float:
        """How many runs there were at a time so far; more than workers where those share a GPU."""
        spent = self._spent + sum((now - begun) / together for begun, together in self._begun.values())
        return spent / (now - self._start) if now > self._start else 0.0

    def _expected(self, number: int) -> float | None:
        known = next((self._seconds[label] for label in self.labels[number] if label in self._seconds), None)
        return sum(known) / len(known) if known else None


def duration(seconds: float) -> str:
    """In the unit in which it is a number of two or three digits: ``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:,.1f} h"
