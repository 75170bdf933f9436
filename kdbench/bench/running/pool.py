"""What carries out the runs of a grid, and what comes back of each."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kdbench.errors import KdbenchError


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its value, or the reason why there is none, and the whole traceback; ``died``: its process ended
    under it, so that nothing is known of the task itself."""

    value: Any = None
    error: str = ""
    trace: str = ""
    died: bool = False


def guarded(fn: Callable[..., Any], args: Sequence[Any]) -> Outcome:
    """Call, and turn an exception into an outcome: one line for a user's error, the traceback's end for a bug."""
    try:
        return Outcome(fn(*args))
    except Exception as error:  # noqa: BLE001 - a cell must not take the grid down
        return failure(error)


def failure(error: Exception) -> Outcome:
    """The outcome of a task that was ended by ``error``."""
    trace = "".join(traceback.format_exception(error))
    place = ""
    if not isinstance(error, KdbenchError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f" ({os.path.basename(frame.filename)}:{frame.lineno})"
    return Outcome(error=f"{type(error).__name__}: {error}{place}", trace=trace)


class Pool(Protocol):
    """What carries out tasks: processes here, or an existing engine."""

    def __enter__(self) -> Any: ...

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None: ...

    @property
    def has_room(self) -> bool:
        """Whether it takes another task."""

    @property
    def is_busy(self) -> bool:
        """Whether a task is under way."""

    def start(self, key: Any, fn: Callable[..., Any], *args: Any) -> None:
        """Hand over a task."""

    def finished(self, timeout: float | None = None) -> Iterator[tuple[Any, Outcome]]:
        """Wait for at least one task, or ``timeout`` seconds; yields (key, outcome) of those that are done."""
