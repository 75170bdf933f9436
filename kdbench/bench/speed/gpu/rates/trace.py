"""Launches, waits and busy time in a trace of PyTorch's profiler (Chrome's format)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: categories of what a GPU did, and of what the host asked CUDA for
_DEVICE, _HOST = ("kernel", "gpu_memcpy", "gpu_memset"), ("cuda_runtime", "cuda_driver")
#: calls that wait for the device; waiting for all of it is what the measurement itself does at its end
_WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cuStreamSynchronize", "cuEventSynchronize")
_BLOCKING = ("cudaMemcpy", "cudaMemset")


def read_trace(events: Iterable[Mapping[str, Any]], steps: int) -> dict[str, float]:
    """What a step takes, on average over the steps of a trace.

    Args:
        events: ``traceEvents`` of the file; times in microseconds.
        steps: that the trace holds.

    Returns:
        Per step: ``launches`` (calls of the host that start kernels, a whole graph being one), ``graphs`` (of these, replays of a
        graph), ``copies`` (asked by the host), ``kernels`` (that ran), ``waits`` (calls in which the host waits for the device)
        and ``busy_ms`` (time in which the device did anything: kernels and copies, those at the same time counted once).
    """
    launches = graphs = copies = kernels = waits = 0
    spans: list[tuple[float, float]] = []
    for event in events:
        if event.get("ph") != "X":
            continue
        kind, name = event.get("cat"), str(event.get("name", ""))
        if kind in _DEVICE:
            kernels += kind == "kernel"
            spans.append((float(event["ts"]), float(event["ts"]) + float(event["dur"])))
        elif kind in _HOST:
            graphs += "GraphLaunch" in name
            launches += "Launch" in name
            copies += "Memcpy" in name or "Memset" in name
            waits += name in _WAITS or name in _BLOCKING
    counts = {"launches": launches, "graphs": graphs, "copies": copies, "kernels": kernels, "waits": waits}
    return {**{name: count / steps for name, count in counts.items()}, "busy_ms": _union(spans) / 1e3 / steps}


def _union(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    whole, reached = 0.0, float("-inf")
    for first, last in sorted(spans):
        whole += max(0.0, last - max(first, reached))
        reached = max(reached, last)
    return whole
