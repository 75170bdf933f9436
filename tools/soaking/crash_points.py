"""Ends of a run at named points of its work with files: before, after and, of what is written, within each operation."""

from __future__ import annotations

import builtins
import io
import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soaking.child import Child, command, ended
from soaking.place import Place, difference, expect_done, train
from soaking.verdict import Verdict, fault_of, judge

#: os's operations on files by which kdbench changes what is on the disk
_OPERATIONS = ("replace", "rename", "truncate", "unlink", "remove", "fsync", "mkdir")
_CACHED = {"CACHE.ENABLED": "True", "SOLVER.CHECKPOINT_EVERY": "4 steps"}
#: what tells one process or one view from another in the name of a file
_OWN = re.compile(r"\.\d+(?=\.|$)|\d{5}")


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """End a run at a point, one of those that it passes, in turn."""
    calm = place.calm("KD", **_CACHED)
    every = points(place)
    point = list(every)[number % len(every)]
    occurrence = chance.randint(1, every[point])
    accident = f"{point}, for the {occurrence}. time"
    with place.case() as folder:
        work = command(*train(folder, "KD", **_CACHED))

        def crashing() -> int:
            left = [occurrence]

            def reach(name: str) -> None:
                left[0] -= name == point
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

            _watch(folder, reach)
            return work()

        fault = fault_of(Child(crashing).wait(), accident, sent=(signal.SIGKILL,))
        if fault is not None:
            return [fault]
        return [judge(ended(work), accident, lambda: difference(folder, calm.content), refusable=False)]


def points(place: Place) -> dict[str, int]:
    """The points that an undisturbed run passes, in their order, and how often it passes each."""

    def record(folder: Path) -> dict[str, int]:
        log = folder / "points"

        def recording() -> int:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

            def reach(name: str) -> None:
                os.write(file, f"{name}\n".encode())

            _watch(folder / "run", reach)
            return command(*train(folder / "run", "KD", **_CACHED))()

        expect_done(ended(recording))
        passed = log.read_text().splitlines()
        return {name: passed.count(name) for name in dict.fromkeys(passed)}

    return place.once("crash points", record)


def _watch(folder: Path, reach: Callable[[str], None]) -> None:
    """Have this process tell ``reach`` of each point below ``folder``."""
    for name in _OPERATIONS:
        _wrap(name, folder, reach)
    original = io.open

    def opened(file: Any, mode: str = "r", *more: Any, **others: Any) -> Any:
        stream = original(file, mode, *more, **others)
        label = _label(file, folder)
        if not label or not set(mode) & set("wax+"):
            return stream
        reach(f"after open of {label}")
        return _Halved(stream, label, reach)

    io.open = builtins.open = opened  # type: ignore[assignment]


def _wrap(name: str, folder: Path, reach: Callable[[str], None]) -> None:
    original = getattr(os, name)

    def wrapped(*given: Any, **others: Any) -> Any:
        label = _label(given[1] if name in ("replace", "rename") else given[0], folder)
        if not label:
            return original(*given, **others)
        reach(f"before {name} of {label}")
        done = original(*given, **others)
        reach(f"after {name} of {label}")
        return done

    setattr(os, name, wrapped)


def _label(file: Any, folder: Path) -> str:
    """Which of a run's files it is, whoever writes it; "" for one that lies elsewhere."""
    if isinstance(file, int):
        try:
            file = os.readlink(f"/proc/self/fd/{file}")
        except OSError:
            return ""
    path = os.fsdecode(file)
    if not path.startswith(str(folder)):
        return ""
    return _OWN.sub("", os.path.basename(path)) if path != str(folder) else "LOG.PREFIX"


class _Halved:
    """A file of which each write is a point at half of it."""

    def __init__(self, stream: Any, label: str, reach: Callable[[str], None]) -> None:
        self._stream, self._label, self._reach = stream, label, reach

    def write(self, content: Any) -> int:
        half = len(content) // 2
        if half == 0:
            return int(self._stream.write(content))
        first = self._stream.write(content[:half])
        self._stream.flush()
        self._reach(f"within write of {self._label}")
        return int(first + self._stream.write(content[half:]))

    def __enter__(self) -> _Halved:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stream.close()

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
