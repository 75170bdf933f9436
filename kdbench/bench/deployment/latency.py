"""Milliseconds of a batch: medians of repeated measurements, after a warm-up."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdbench.engine.precision import products
from kdbench.engine.runtime import device_name, pick_device
from kdbench.models.zoo import create_model

#: images of a batch: one at a time, and as many as a server gathers
BATCHES = (1, 32)
#: calls that are not measured: memory is allocated and kernels are chosen in them
_WARM_UP = 3
_LEAST, _MOST = 10, 1000


@dataclass(frozen=True)
class Latency:
    """Of one network and one size of batch.

    Attributes:
        batch: images.
        milliseconds: of a batch, median.
        images_per_second: at that median.
        calls: that were measured.
    """

    batch: int
    milliseconds: float
    images_per_second: float
    calls: int


@dataclass(frozen=True)
class NetworkLatency:
    """Of a network of the zoo.

    Attributes:
        name: of the network.
        params: its parameters.
        input_size: (h, w) of the images.
        device: in words: a GPU by its product name, a CPU with the number of threads.
        latencies: one for each size of batch.
    """

    name: str
    params: int
    input_size: tuple[int, int]
    device: str
    latencies: list[Latency]


def measured(
    call: Callable[[Tensor], object],
    images: Tensor,
    *,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Call again and again on the same images.

    Args:
        call: returns when all is computed.
        images: (B, 3, H, W).
        seconds: to measure for, at least 10 calls and at most 1000.
        clock: seconds.
    """
    for _ in range(_WARM_UP):
        call(images)
    found: list[float] = []
    started = clock()
    while len(found) < _LEAST or (clock() - started < seconds and len(found) < _MOST):
        before = clock()
        call(images)
        found.append(clock() - before)
    median = statistics.median(found)
    return Latency(len(images), 1e3 * median, len(images) / median, len(found))


@contextlib.contextmanager
def threads_of(count: int) -> Iterator[int]:
    """PyTorch computes with so many threads inside (0: as many as it has); gives their number."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def latency_of(
    name: str,
    *,
    num_classes: int = 1000,
    size: int = 0,
    device: str = "cpu",
    batches: Sequence[int] = BATCHES,
    seconds: float = 1.0,
) -> NetworkLatency:
    """A network of the zoo with fresh weights, normalisation of its input included, in float32.

    Args:
        name: as of :func:`kdbench.create_model`.
        num_classes: K.
        size: side of the images; 0 = the network's own.
        device: ``cpu``, ``cuda``, ``cuda:<index>``, or ``auto``.
        batches: sizes.
        seconds: to measure each for.

    Raises:
        KdbenchError: no such network, size or device.
    """
    place = pick_device(device)
    model = create_model(name, num_classes=num_classes, input_size=size, seed=0).eval().to(place)
    latencies = []
    with products("fp32", place):
        for batch in batches:
            images = torch.rand(batch, 3, *model.input_size, generator=torch.Generator().manual_seed(0)).to(place)
            latencies.append(measured(_finished(model, place), images, seconds=seconds))
    return NetworkLatency(model.spec.name, model.spec.params, model.input_size, device_name(place), latencies)


def _finished(model: torch.nn.Module, device: torch.device) -> Callable[[Tensor], object]:
    """A call that returns when the device has computed: a GPU's own returns when the work is queued."""
    if device.type != "cuda":
        return model

    def call(images: Tensor) -> None:
        model(images)
        torch.cuda.synchronize(device)

    return call
