"""What carries out the runs of a grid, and what comes back of each."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kdbench.errors import KdbenchError, RunStoppedError, StorageError


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its value, or the reason why there is none, and the whole traceback.

    ``died``: its process ended under it, so that nothing is known of the task itself. ``no_memory``: a GPU had none left.
    ``stopped``: a signal asked its process to stop; the task goes on where it was saved. ``leaving``: that process would stop at
    whatever else it is given. ``passing``: the fault is the machine's (a full disk) and not the task's, which is tried again by the
    same command. ``crowded``: other tasks were on its GPU meanwhile. ``card``: what its process took of the GPU, in bytes
    (:func:`kdbench.bench.machine.cards.memory_report`).
    """

    value: Any = None
    error: str = ""
    trace: str = ""
    died: bool = False
    no_memory: bool = False
    stopped: bool = False
    leaving: bool = False
    passing: bool = False
    crowded: bool = False
    card: Mapping[str, int] = field(default_factory=dict)


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
    return Outcome(
        error=f"{type(error).__name__}: {error}{place}",
        trace=trace,
        no_memory=_is_no_memory(error),
        stopped=isinstance(error, RunStoppedError),
        passing=isinstance(error, StorageError),
    )


def _is_no_memory(error: Exception) -> bool:
    """Whether a GPU's memory was exhausted: PyTorch's allocator says so by a class of its own, CUDA and its libraries in words."""
    import torch

    told = ("CUDA error: out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in told)
    )


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

    def has_room_for(self, kind: str, *, alone: bool = False) -> bool:
        """Whether a task of this kind may begin now; ``alone``: with nobody beside it on its GPU."""

    def start(self, key: Any, fn: Callable[..., Any], *args: Any, kind: str = "", alone: bool = False) -> None:
        """Hand over a task; ``kind``: tasks of one kind take the same memory."""

    def finished(self, timeout: float | None = None) -> Iterator[tuple[Any, Outcome]]:
        """Wait for at least one task, or ``timeout`` seconds; yields (key, outcome) of those that are done."""

    def stop(self) -> bool:
        """Ask all tasks to stop where they can go on; whether they will come back, and are worth to be waited for."""
