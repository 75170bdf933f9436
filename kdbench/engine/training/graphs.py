"""Work that is recorded once and replayed: CUDA graphs over inputs at fixed addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

#: calls that are run before one is recorded: what libraries and optimisers set up at their first calls is then there
WARM_UP = 3


class Graph(Protocol):
    """A recording."""

    def record(self, work: Callable[[], Any]) -> None:
        """Take down what ``work`` would do, without doing it."""

    def replay(self) -> Any:
        """Do it; returns what ``work`` returned, in tensors that stay the same from replay to replay."""

    def close(self) -> None:
        """It is not needed any more."""


class CudaGraph:
    """A CUDA graph with memory of its own, recorded on the current stream, or where that cannot be, one of PyTorch's."""

    def __init__(self) -> None:
        self._graph, self._result = torch.cuda.CUDAGraph(), None

    def record(self, work: Callable[[], Any]) -> None:
        """Raises: RuntimeError: something in it waits for the device, or cannot be recorded."""
        current = torch.cuda.current_stream()
        stream = None if current == torch.cuda.default_stream() else current
        # another thread may pin memory meanwhile, which concerns this stream no more than its own work does
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._result = work()

    def replay(self) -> Any:
        self._graph.replay()
        return self._result

    def close(self) -> None:
        """Wait until its last replay has ended, so that nobody is given its memory before."""
        torch.cuda.synchronize()


class Rerun:
    """The same on a CPU, for tests: it runs the recorded work again, and hands out the first run's tensors each time. What differs
    from step to step without going through them is not seen, as in a graph."""

    def __init__(self) -> None:
        self._work: Callable[[], Any] | None = None
        self._result: Any = None

    def record(self, work: Callable[[], Any]) -> None:
        self._work = work

    def replay(self) -> Any:
        assert self._work is not None
        found = self._work()
        if self._result is None:
            self._result = found
        else:
            copy_into(self._result, found)
        return self._result

    def close(self) -> None:
        """Nothing."""


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in a tensor, sequence, dictionary or dataclass, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in tensors_of(item)]
    if isinstance(value, dict):
        return tensors_of(list(value.values()))
    if is_dataclass(value) and not isinstance(value, type):
        return [tensor for part in fields(value) for tensor in tensors_of(getattr(value, part.name))]
    return []


def same_shapes(one: Any, other: Any) -> bool:
    """Whether two values hold tensors of the same shapes, types and order of memory."""
    ours, theirs = tensors_of(one), tensors_of(other)
    return len(ours) == len(theirs) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride() for a, b in zip(ours, theirs)
    )


def copy_into(to: Any, value: Any) -> None:
    """Copy tensor by tensor, without waiting."""
    for own, new in zip(tensors_of(to), tensors_of(value), strict=True):
        if own is not new:
            own.copy_(new, non_blocking=True)


class Fixed:
    """A value whose tensors keep their addresses: what is put in is copied over what was there.

    Values whose shapes are not those of the first one (the last, smaller batch of an epoch) are handed back as they are.
    """

    def __init__(self) -> None:
        self._held: Any = None

    def put(self, value: Any) -> Any:
        """The value at fixed addresses, or ``value`` itself."""
        if self._held is None:
            self._held = _cloned(value)
        if not same_shapes(self._held, value):
            return value
        copy_into(self._held, value)
        return self._held

    def holds(self, value: Any) -> bool:
        """Whether ``value`` was handed out by :meth:`put` as one at fixed addresses."""
        return value is self._held


def _cloned(value: Any) -> Any:
    """The same with tensors of its own."""
    if isinstance(value, Tensor):
        return value.clone(memory_format=torch.preserve_format)
    if isinstance(value, (tuple, list)):
        return type(value)(_cloned(item) for item in value)
    if isinstance(value, dict):
        return {key: _cloned(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: _cloned(getattr(value, part.name)) for part in fields(value) if part.init})
    return value
