"""Run tasks in worker processes of one machine: each worker's threads pinned, each failure isolated."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from kdbench.bench.running.pool import Outcome, guarded

_WATCH = 1.0  # seconds between a worker's looks at whether its parent lives


class LocalPool:
    """``jobs`` worker processes. Each slot is a pool of its own, so that a worker that dies (out of memory, a kill) costs one
    task and no more.

    Two processes with default threads do less than half the work of one on two cores: ``threads`` is set for each. Each
    sees ``gpus_each`` of ``gpus`` (default: those of this machine), in turn. A worker ends when its parent does.
    """

    def __init__(self, jobs: int, threads: int, gpus: Sequence[str] | None = None, *, gpus_each: int = 1) -> None:
        self.gpus_each = gpus_each
        self.jobs, self.threads = jobs, threads
        self.gpus = visible_gpus() if gpus is None else list(gpus)
        self._context = multiprocessing.get_context("spawn")
        self._pools: list[ProcessPoolExecutor] = []
        self._busy: dict[Future[Outcome], tuple[int, Any]] = {}
        self._free: list[int] = []

    def __enter__(self) -> LocalPool:
        self._pools = [self._new_pool(slot) for slot in range(self.jobs)]
        self._free = list(range(self.jobs))
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        for pool in self._pools:
            if kind is not None:
                for process in list(getattr(pool, "_processes", {}).values()):
                    process.terminate()
            pool.shutdown(wait=kind is None, cancel_futures=True)

    def _new_pool(self, slot: int) -> ProcessPoolExecutor:
        count = len(self.gpus)
        seen = (
            [self.gpus[n % count] for n in range(slot * self.gpus_each, (slot + 1) * self.gpus_each)] if count else []
        )
        arguments = (self.threads, ",".join(dict.fromkeys(seen)), os.getpid())
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=_begin, initargs=arguments)

    def _renew(self, slot: int) -> None:
        self._pools[slot].shutdown(wait=False)
        self._pools[slot] = self._new_pool(slot)

    @property
    def has_room(self) -> bool:
        """Whether a worker is idle."""
        return bool(self._free)

    @property
    def is_busy(self) -> bool:
        """Whether a task is under way."""
        return bool(self._busy)

    def start(self, key: Any, fn: Callable[..., Any], *args: Any) -> None:
        """Hand a task to an idle worker."""
        slot = self._free.pop()
        processes = list((getattr(self._pools[slot], "_processes", None) or {}).values())
        if any(not process.is_alive() for process in processes):
            self._renew(slot)  # it died while it was idle: no task's fault
        with _threads_in_environment(self.threads):
            try:
                future = self._pools[slot].submit(guarded, fn, args)
            except BrokenProcessPool:
                self._renew(slot)
                future = self._pools[slot].submit(guarded, fn, args)
        self._busy[future] = (slot, key)

    def finished(self, timeout: float | None = None) -> Iterator[tuple[Any, Outcome]]:
        """Wait for at least one task, or ``timeout`` seconds; yields (key, outcome) of those that are done."""
        done, _ = wait(self._busy, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            slot, key = self._busy.pop(future)
            try:
                outcome = future.result()
            except BrokenProcessPool:
                self._renew(slot)
                outcome = Outcome(error="the worker process died (killed, or out of memory)", died=True)
            self._free.append(slot)
            yield key, outcome


def default_jobs(processes: int = 1) -> tuple[int, int]:
    """(jobs, threads of each process): a process per GPU where there are some, else one single-threaded process per core; with
    several ``processes`` a job accordingly fewer jobs."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = torch.cuda.device_count()
    jobs = max(1, (gpus or cores) // processes)
    return (jobs, max(1, cores // gpus)) if gpus else (jobs, 1)


def visible_gpus() -> list[str]:
    """Names of this machine's GPUs as ``CUDA_VISIBLE_DEVICES`` takes them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def _begin(threads: int, gpus: str, parent: int) -> None:
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus  # before CUDA starts in this process
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _end_with(parent: int) -> None:
    """A parent that was killed outright cannot end its workers; one that goes on alone would hold its run, and the memory."""
    while os.getppid() == parent:
        time.sleep(_WATCH)
    os._exit(1)


@contextmanager
def _threads_in_environment(threads: int) -> Iterator[None]:
    """OpenMP reads its environment when a worker starts, which is at its first task."""
    old = {key: os.environ.get(key) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(old, str(threads)))
    try:
        yield
    finally:
        for key, value in old.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
