"""What a step takes, read from a trace of the profiler."""

from __future__ import annotations

import pytest

from kdbench.bench.speed.gpu.rates.trace import read_trace


def event(cat: str, name: str, ts: float = 0.0, dur: float = 1.0, ph: str = "X") -> dict:
    return {"ph": ph, "cat": cat, "name": name, "ts": ts, "dur": dur}


def test_counts_are_those_of_a_step():
    host = ["cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync"]
    host += ["cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy", "cudaDeviceSynchronize", "cudaEventQuery"]
    events = [event("cuda_driver" if name.startswith("cuL") else "cuda_runtime", name) for name in host]
    events += [event("cpu_op", "aten::addmm"), event("kernel", "gemm"), event("gpu_memset", "Memset (Device)")]
    events += [event("kernel", "a flow's arrow", ph="s"), {"ph": "M", "name": "process_name"}]
    found = read_trace(events, 2)
    assert {name: 2 * value for name, value in found.items() if name != "busy_ms"} == {
        "launches": 4,
        "graphs": 1,
        "copies": 2,
        "kernels": 1,
        "waits": 3,
    }


@pytest.mark.parametrize(
    ("spans", "busy"),
    [
        ([(0, 10), (20, 5)], 15),
        ([(20, 5), (0, 10)], 15),
        ([(0, 10), (5, 10), (6, 1)], 15),  # three streams at once
        ([(0, 10), (10, 10)], 20),
        ([], 0),
    ],
)
def test_what_runs_at_the_same_time_is_counted_once(spans, busy):
    events = [event("kernel", "k", start, length) for start, length in spans]
    assert read_trace(events, 5)["busy_ms"] == pytest.approx(busy / 1e3 / 5)
