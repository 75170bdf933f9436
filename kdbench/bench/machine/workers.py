"""How many worker processes this machine gets, and how its cores are shared out among them."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Workers:
    """Worker processes of a grid: how many there are at most, the threads of each, whether they share GPUs as far as memory goes,
    and how many runs or cohorts fill the machine."""

    jobs: int
    threads: int
    packed: bool
    fill: int


def plan_workers(tasks: int, *, jobs: int = 0, threads: int = 0, processes: int = 1, pack: bool = True) -> Workers:
    """How this machine is shared out among tasks.

    Without GPUs a single-threaded worker per core; with GPUs as many workers as share them by memory, half as many as there are
    cores at most (one a card at least), which share out the cores. Runs of several processes do not share their GPUs.

    Args:
        tasks: that there are to do.
        jobs: workers that the user wants, whatever the memory; 0 = as above.
        threads: of each worker that the user wants; 0 = as above.
        processes: of each run.
        pack: whether runs may share GPUs; not where they do not use them, of which no memory can be measured.
    """
    import torch

    gpus = torch.cuda.device_count()
    auto_jobs, auto_threads = default_jobs(processes)
    packed = pack and bool(gpus) and not jobs and processes == 1
    number = min(jobs or (max(gpus, cores() // 2) if packed else auto_jobs), tasks)
    shared = max(1, cores() // max(1, number * processes)) if gpus else auto_threads
    return Workers(number, threads or shared, packed, min(gpus, tasks) if packed else number)


def default_jobs(processes: int = 1) -> tuple[int, int]:
    """(jobs, threads of each process): a process per GPU where there are some, else one single-threaded process per core; with
    several ``processes`` a job accordingly fewer jobs."""
    import torch

    gpus = torch.cuda.device_count()
    jobs = max(1, (gpus or cores()) // processes)
    return (jobs, max(1, cores() // gpus)) if gpus else (jobs, 1)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Names of this machine's GPUs as ``CUDA_VISIBLE_DEVICES`` takes them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]
