"""Between the host's memory and a GPU without waiting for it: pinned memory, and a stream beside that of the training step.

A copy from ordinary memory waits until it is done, one from pinned memory runs while the host goes on. What is done on the stream
beside runs while the GPU takes a step; who uses its results waits for an event on the GPU, not in the host.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

A = TypeVar("A")
T = TypeVar("T")
#: pieces of work whose results the consumer may still be busy with when the next one is begun
_DEPTH = 2


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor in memory from which a GPU copies on its own; for another device as it is."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; on a GPU it arrives in the order of the current stream, and the host does not wait."""
    return pinned(tensor, device).to(device, non_blocking=True)


def send_all(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """1-d tensors on a device, in one copy for each type of numbers."""
    there: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        whole = send(torch.cat([tensors[place] for place in places]), device)
        there.update(zip(places, whole.split([len(tensors[place]) for place in places])))
    return [there[place] for place in range(len(tensors))]


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def beside(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Within it, what is asked of a GPU is done on the one stream of this process beside its main one."""
    return torch.cuda.stream(_stream(device)) if device.type == "cuda" else contextlib.nullcontext()


def in_advance(
    items: Iterable[A], work: Callable[[A], list[T]], tensors: Callable[[T], Iterable[Tensor]], device: torch.device
) -> Iterator[T]:
    """The results of ``work``, item by item. On a GPU the work for an item is asked for, on the stream beside, before the
    consumer is given the results for the one before, so that it is done while those are used.

    Args:
        items: arguments of ``work``.
        work: what gives a list of results.
        tensors: of a result, all that were made on the stream beside.
        device: where the work is done.
    """
    if device.type != "cuda":
        for item in items:
            yield from work(item)
        return
    begun: tuple[list[T], torch.cuda.Event] | None = None
    used: deque[torch.cuda.Event] = deque()
    for item in items:
        if len(used) == _DEPTH:  # A host that ran ahead of the GPU by many batches would fill its memory with them.
            used.popleft().synchronize()
        with beside(device):
            results = work(item)
            event = torch.cuda.Event()
            event.record()
        if begun is not None:
            yield from _arrived(*begun, tensors, device)
            used.append(torch.cuda.Event())
            used[-1].record(torch.cuda.current_stream(device))
        begun = results, event
    if begun is not None:
        yield from _arrived(*begun, tensors, device)


def _arrived(
    results: list[T], event: torch.cuda.Event, tensors: Callable[[T], Iterable[Tensor]], device: torch.device
) -> Iterator[T]:
    stream = torch.cuda.current_stream(device)
    stream.wait_event(event)
    for result in results:
        for tensor in tensors(result):
            tensor.record_stream(stream)  # its memory is not given to the stream beside while this one reads it
        yield result
