"""Who of a run's processes is gone, silent or stuck, judged by what they tell."""

from __future__ import annotations

import sys
import sysconfig
import threading
import time
from pathlib import Path

from kdbench.processes.board import Beat
from kdbench.processes.place import Place

#: seconds without a sign of life after which a process counts as gone. A thread of its own gives the signs, so that they come
#: however long its work takes.
SILENCE = 40.0
#: seconds that a step may take before others that wait for it give up, where no step has taken so long before, and times the
#: longest step so far
STILL, TIMES = 45.0, 10.0
#: the same for the first step, in which much is prepared
FIRST = 600.0
_STDLIB = sysconfig.get_paths()["stdlib"]
_TORCH, _DATA = "/torch/", "/torch/utils/data/"


class Judge:
    """Follows the signs of life of others.

    Args:
        places: of all processes.
    """

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self._seen: dict[int, tuple[int, float]] = {}  # of each the number of its last sign, and when that came

    def ended(self, ranks: list[int]) -> list[int]:
        """Those that are known to be dead. Ask before their last signs are read, which may say that they had left."""
        return [rank for rank in ranks if self.places[rank].has_ended()]

    def gone(self, beats: dict[int, Beat], ended: list[int]) -> tuple[int, str] | None:
        """The first that is dead or silent, and what is wrong with it; those that have left are neither."""
        now = time.monotonic()
        for rank, beat in beats.items():
            number, since = self._seen.get(rank, (-1, now))
            if beat.number != number:
                since = now
                self._seen[rank] = (beat.number, now)
            if beat.left:
                continue
            if rank in ended:
                return rank, "is gone"
            if now - since > SILENCE:
                return rank, f"has given no sign of life for {now - since:.0f} s"
        return None

    @staticmethod
    def stuck(beats: dict[int, Beat]) -> tuple[int, str] | None:
        """The process that others wait for although it does not wait for them, and where it is."""
        late = {rank: beat for rank, beat in beats.items() if beat.still > beat.limit > 0}
        for rank, beat in late.items():
            waiting = any(not other.at or other.step > beat.step for r, other in late.items() if r != rank)
            if beat.at and waiting:
                return rank, f"has been stuck for {beat.still:.0f} s at {beat.at}"
        return None

    def name(self, rank: int) -> str:
        """A process in words."""
        place = self.places[rank]
        return f"process {rank} of {len(self.places)} (pid {place.pid} on {place.host})"


class Steps:
    """How long the main thread has been at its step, and where."""

    def __init__(self) -> None:
        self.step = 0
        self._began: float | None = None
        self._longest = 0.0

    def next(self) -> None:
        """A step begins; the one before, if there was one, has ended."""
        now = time.monotonic()
        if self._began is not None:
            self._longest = max(self._longest, now - self._began)
        self._began = now
        self.step += 1

    def rest(self) -> None:
        """Something else than steps begins, in which a process may do long work alone."""
        self._began = None

    def beat(self, number: int) -> Beat:
        """The sign of life."""
        began = self._began
        if began is None:
            return Beat(number, self.step)
        limit = max(STILL, TIMES * self._longest) if self._longest else FIRST
        return Beat(number, self.step, time.monotonic() - began, limit, _whereabouts())


def _whereabouts() -> str:
    """The line at which the main thread is, empty within PyTorch but for its loaders of data."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith("<") and (_STDLIB not in file or "site-packages" in file):
            if _TORCH in file and _DATA not in file:
                return ""
            return f"{Path(file).name}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back
    return ""
