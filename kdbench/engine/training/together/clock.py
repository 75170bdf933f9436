"""How long an epoch takes: all of it, and what of it each student would take alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdbench.engine.training.trainer import Trainer


class Clock:
    """Seconds of an epoch: of all, and of each member what it would take alone.

    Args:
        members: who share it.
        alone: the whole time is each member's: there is one, or their steps overlap and cannot be told apart.
    """

    def __init__(self, members: list[Trainer], *, alone: bool) -> None:
        self.members, self.alone = len(members), alone
        self.data = self.teacher = 0.0
        self.own = dict.fromkeys(members, 0.0)
        self.started = self._last = time.perf_counter()
        self.whole = 0.0

    def mark(self) -> float:
        """Seconds since the last mark."""
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed

    def waited(self) -> None:
        """A batch has come."""
        self.data += self.mark()

    def asked(self) -> None:
        """The teacher has answered."""
        self.teacher += self.mark()

    def took(self, member: Trainer) -> None:
        """A member has taken its step."""
        self.own[member] += self.mark()

    def stop(self) -> None:
        """The epoch has ended."""
        self.whole = time.perf_counter() - self.started

    def timing(self, member: Trainer, taught: bool) -> dict[str, Any]:
        """``seconds`` and ``data_seconds``; ``together``, the number of members, where the seconds are those of all of them."""
        if self.alone:
            together = {"together": self.members} if self.members > 1 else {}
            return {"seconds": self.whole, "data_seconds": self.data, **together}
        return {"seconds": self.data + taught * self.teacher + self.own[member], "data_seconds": self.data}
