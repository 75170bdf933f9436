"""Run tasks in worker processes of one machine: each worker's threads pinned, each failure isolated."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from typing import Any

from kdbench import stopping
from kdbench.bench.machine.cards import CardRoom, memory_report, release_memory
from kdbench.bench.machine.workers import visible_gpus
from kdbench.bench.running.pools.pool import Outcome, guarded

_WATCH = 1.0  # seconds between a worker's looks at whether its parent lives
_GRACE = 20.0  # seconds that a worker has to save its run when it is to end
_ORPHANED = 10.0  # the same for one whose parent was killed, and whose run somebody else may be waiting for
_LOOK = 3.0  # seconds between looks at what a task of unknown memory has noted


class LocalPool:
    """``jobs`` worker processes. Each slot is a pool of its own, so that a worker that dies (out of memory, a kill) costs one
    task and no more.

    Two processes with default threads do less than half the work of one on two cores: ``threads`` is set for each. Each
    sees ``gpus_each`` of ``gpus`` (default: those of this machine), in turn. A worker ends when its parent does.

    Args:
        jobs: workers at a time.
        threads: of each.
        gpus: names of GPUs as ``CUDA_VISIBLE_DEVICES`` takes them; empty = none.
        gpus_each: GPUs of a worker.
        memory: of each GPU in bytes (0 = not known yet): workers share a GPU as far as its memory goes. None: as many as are its
            turn.
        measures: bytes that a task of a kind takes of a GPU, where that is known; others are measured.
        look: gives all that a task which is under way has noted so far, of its memory
            (:func:`kdbench.bench.machine.cards.memory_report`) and of the process that did (``pid``).
    """

    def __init__(
        self,
        jobs: int,
        threads: int,
        gpus: Sequence[str] | None = None,
        *,
        gpus_each: int = 1,
        memory: Sequence[int] | None = None,
        measures: Mapping[str, int] | None = None,
        look: Callable[[Any], Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        self.gpus_each, self.look = gpus_each, look
        self.jobs, self.threads = jobs, threads
        self.gpus = visible_gpus() if gpus is None else list(gpus)
        known = dict(measures or {})
        self._seen = [self._gpus_of(slot) for slot in range(jobs)]
        totals = dict(zip(self.gpus, memory or ()))
        self._rooms = {seen: CardRoom(totals.get(seen, 0), known, guarded=memory is not None) for seen in self._seen}
        self._context = multiprocessing.get_context("spawn")
        self._pools: list[ProcessPoolExecutor] = []
        self._busy: dict[Future[Outcome], tuple[int, Any, str]] = {}
        self._free: list[int] = []
        self._started: set[int] = set()

    def __enter__(self) -> LocalPool:
        _start_tracker()
        self._pools = [self._new_pool(slot) for slot in range(self.jobs)]
        self._free = list(range(self.jobs))
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        processes = [] if kind is None else self._processes()
        for process in processes:
            process.terminate()  # a run saves itself first
        for pool in self._pools:
            pool.shutdown(wait=kind is None, cancel_futures=True)
        deadline = time.monotonic() + _GRACE
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()

    def _processes(self) -> list[Any]:
        return [process for pool in self._pools for process in (getattr(pool, "_processes", None) or {}).values()]

    def stop(self) -> bool:
        """Ask all tasks to stop where they can go on."""
        for process in self._processes():
            process.terminate()
        return True

    def _gpus_of(self, slot: int) -> str:
        """What a worker sees, as ``CUDA_VISIBLE_DEVICES`` takes it."""
        count = len(self.gpus)
        places = range(slot * self.gpus_each, (slot + 1) * self.gpus_each) if count else ()
        return ",".join(dict.fromkeys(self.gpus[n % count] for n in places))

    def _new_pool(self, slot: int) -> ProcessPoolExecutor:
        arguments = (self.threads, self._seen[slot], os.getpid())
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=_begin, initargs=arguments)

    def _renew(self, slot: int) -> None:
        self._pools[slot].shutdown(wait=False)
        self._pools[slot] = self._new_pool(slot)

    def _room(self, slot: int) -> CardRoom:
        return self._rooms[self._seen[slot]]

    @property
    def has_room(self) -> bool:
        """Whether a worker is idle, and its GPU takes another task of some kind."""
        return any(self._room(slot).is_open for slot in self._free)

    def has_room_for(self, kind: str, *, alone: bool = False) -> bool:
        """Whether a task of this kind may begin now; ``alone``: with nobody beside it on its GPU."""
        return self._slot_for(kind, alone and bool(self.gpus)) is not None

    def _slot_for(self, kind: str, alone: bool) -> int | None:
        """An idle worker whose GPU has room; rather on an empty GPU, rather one that is there already."""
        fitting = [
            slot for slot in self._free if self._room(slot).fits(kind, alone=alone, fresh=slot not in self._started)
        ]
        ranks = {slot: (len(self._room(slot).guests), slot not in self._started) for slot in fitting}
        return min(reversed(fitting), key=ranks.__getitem__, default=None)

    @property
    def is_busy(self) -> bool:
        """Whether a task is under way."""
        return bool(self._busy)

    def start(self, key: Any, fn: Callable[..., Any], *args: Any, kind: str = "", alone: bool = False) -> None:
        """Hand a task to an idle worker.

        Raises:
            RuntimeError: there is no room for it, see :meth:`has_room_for`.
        """
        alone = alone and bool(self.gpus)
        slot = self._slot_for(kind, alone)
        if slot is None:
            raise RuntimeError(f"no worker has room for {key}")
        self._free.remove(slot)
        processes = list((getattr(self._pools[slot], "_processes", None) or {}).values())
        if any(not process.is_alive() for process in processes):
            self._renew(slot)  # it died while it was idle: no task's fault
        # a worker that is asked to stop before it can heed that would die of it
        with _threads_in_environment(self.threads), stopping.held_back():
            try:
                future = self._pools[slot].submit(_carry_out, fn, args)
            except BrokenProcessPool:
                self._renew(slot)
                future = self._pools[slot].submit(_carry_out, fn, args)
        self._busy[future] = (slot, key, kind)
        self._room(slot).enter(slot, kind, alone=alone)
        self._room(slot).processes += slot not in self._started
        self._started.add(slot)

    def finished(self, timeout: float | None = None) -> Iterator[tuple[Any, Outcome]]:
        """Wait for at least one task, or ``timeout`` seconds, or until it is known what one takes of its GPU; yields (key, outcome)
        of those that are done."""
        done, _ = wait(self._busy, timeout=self._patience(timeout), return_when=FIRST_COMPLETED)
        for future in done:
            slot, key, kind = self._busy.pop(future)
            try:
                outcome = future.result()
            except BrokenProcessPool:
                self._renew(slot)
                outcome = Outcome(error="the worker process died (killed, or out of memory)", died=True)
            room = self._room(slot)
            if not outcome.no_memory:  # of one that was cut short the whole is not known
                room.report(kind, outcome.card)
            if outcome.leaving:
                self._renew(slot)
            crowded = room.leave(slot)
            self._free.append(slot)
            yield key, replace(outcome, crowded=crowded)
        if not done:
            self._look()

    def _patience(self, timeout: float | None) -> float | None:
        """Seconds to wait: less than told while a task waits to be measured, so that others can join it."""
        if self.look is None or not any(self._room(slot).awaits(kind) for slot, _, kind in self._busy.values()):
            return timeout
        return _LOOK if timeout is None else min(timeout, _LOOK)

    def _look(self) -> None:
        """See what tasks of unknown memory have noted of it."""
        for slot, key, kind in self._busy.values():
            if self.look is None or not self._room(slot).awaits(kind):
                continue
            workers = getattr(self._pools[slot], "_processes", None) or {}
            for told in self.look(key):
                if "gpu_bytes" in told and told.get("pid") in workers:
                    self._room(slot).report(kind, told)
                    break


def _start_tracker() -> None:
    """Python's own helper process of a pool, deaf to signals that are sent to all processes of a job; to SIGTERM it is."""
    if hasattr(signal, "pthread_sigmask"):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGHUP})
        try:
            resource_tracker.ensure_running()  # it inherits what is blocked here
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


#: in a worker: it has a task
_at_work = threading.Event()


def _begin(threads: int, gpus: str, parent: int) -> None:
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus  # before CUDA starts in this process
    stopping.watch(held=True)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _carry_out(fn: Callable[..., Any], args: Sequence[Any]) -> Outcome:
    """A task, in a worker; then what it took of the GPU, which is given back for those beside it."""
    _at_work.set()
    try:
        outcome = guarded(fn, args)
    finally:
        _at_work.clear()
    told = memory_report()
    release_memory()
    return replace(outcome, card=told, leaving=bool(stopping.asked()))


def _end_with(parent: int) -> None:
    """A parent that was killed outright cannot end its workers; one that goes on alone would hold its run, and the memory. It
    saves its run and ends."""
    while os.getppid() == parent:
        time.sleep(_WATCH)
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + _ORPHANED
    while _at_work.is_set() and time.monotonic() < deadline:
        time.sleep(_WATCH / 10)
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
