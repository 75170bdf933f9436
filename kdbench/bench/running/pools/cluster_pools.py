"""Grids on existing engines: Ray, and Slurm through submitit. No scheduler is written here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdbench.bench.running.pools.pool import Outcome, Pool, guarded
from kdbench.errors import ConfigError, KdbenchError, did_you_mean

log = logging.getLogger(__name__)
EXECUTORS = ("local", "ray", "slurm")


def make_pool(
    name: str,
    *,
    folder: Path,
    jobs: int = 0,
    gpus: float = -1.0,
    cpus: int = 0,
    options: Sequence[str] = (),
    processes: int = 1,
) -> Pool | None:
    """The pool of an executor; None for ``local``, whose pool the grid makes.

    Args:
        name: ``local``, ``ray`` or ``slurm``.
        folder: the grid's, for Slurm's logs.
        jobs: runs at a time; 0 = as many as the engine takes.
        gpus: of each run; below 0 = one a process, where the engine has some.
        cpus: of each run; 0 = one a process.
        options: ``KEY=VALUE`` of ``ray.init``, or of submitit's executor (``slurm_partition=gpu``, ``timeout_min=1440``).
        processes: of each run.

    Raises:
        ConfigError: no such executor, an option that is no ``KEY=VALUE``, or more GPUs for a run than it has processes.
        KdbenchError: the engine is not installed.
    """
    if name not in EXECUTORS:
        raise ConfigError(f"--executor {name!r} is none of {', '.join(EXECUTORS)}{did_you_mean(name, EXECUTORS)}")
    settings: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"--engine {option!r}: expects KEY=VALUE")
        settings[key] = yaml.safe_load(value)
    if gpus > processes:
        raise ConfigError(
            f"--gpus {gpus:g}: a run of {processes} process{'' if processes == 1 else 'es'} uses no more; "
            f"give --processes {gpus:g} too"
        )
    if name == "local":
        return None
    if name == "ray":
        return RayPool(jobs=jobs, gpus=gpus, cpus=cpus or processes, processes=processes, **settings)
    return SlurmPool(
        folder / ".slurm", jobs=jobs, gpus=gpus if gpus >= 0 else processes, cpus=cpus or processes, **settings
    )


class RayPool:
    """A task a run on a Ray cluster. Ray itself tries a run again whose node was lost; the run goes on from its checkpoint, if
    the grid's folder is on a file system that all nodes share."""

    def __init__(
        self,
        *,
        jobs: int = 0,
        gpus: float = -1.0,
        cpus: int = 1,
        processes: int = 1,
        retries: int = 5,
        **settings: Any,
    ) -> None:
        self.ray = _import("ray", "ray")
        self.processes = processes
        self.jobs, self.gpus, self.cpus, self.retries, self.settings = jobs, gpus, cpus, retries, settings
        self._busy: dict[Any, Any] = {}
        self._started = False

    def __enter__(self) -> RayPool:
        if not self.ray.is_initialized():
            self.ray.init(log_to_driver=False, **self.settings)
            self._started = True
        gpus = self.gpus if self.gpus >= 0 else self.processes * float(self.ray.cluster_resources().get("GPU", 0) > 0)
        resources = {"num_cpus": self.cpus, "num_gpus": gpus, "max_retries": self.retries, "retry_exceptions": False}
        self._remote = self.ray.remote(**resources)(guarded)
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        for reference in self._busy:
            self.ray.cancel(reference)
        if self._started:
            self.ray.shutdown()

    def stop(self) -> bool:
        """Tasks are cancelled when the pool is left."""
        return False

    @property
    def has_room(self) -> bool:
        """Ray queues what it has no resources for."""
        return not self.jobs or len(self._busy) < self.jobs

    def has_room_for(self, kind: str, *, alone: bool = False) -> bool:
        """The engine itself keeps tasks apart."""
        return self.has_room

    @property
    def is_busy(self) -> bool:
        """Whether a task is queued or under way."""
        return bool(self._busy)

    def start(self, key: Any, fn: Callable[..., Any], *args: Any, kind: str = "", alone: bool = False) -> None:
        """Hand over a task."""
        self._busy[self._remote.remote(fn, args)] = key

    def finished(self, timeout: float | None = None) -> Iterator[tuple[Any, Outcome]]:
        """Wait for at least one task, or ``timeout`` seconds."""
        done, _ = self.ray.wait(list(self._busy), num_returns=1, timeout=timeout)
        for reference in done:
            key = self._busy.pop(reference)
            try:
                yield key, self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                yield key, Outcome(error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


class SlurmPool:
    """A job array for each wave of runs that can start, through submitit; a preempted job is requeued and goes on from its
    checkpoint."""

    def __init__(
        self,
        logs: Path,
        *,
        jobs: int = 0,
        gpus: float = -1.0,
        cpus: int = 1,
        cluster: str = "slurm",
        poll: float = 5.0,
        **settings: Any,
    ) -> None:
        submitit = _import("submitit", "slurm")
        self.logs, self.poll = logs, poll
        try:
            self.executor = submitit.AutoExecutor(folder=str(logs / "%j"), cluster=cluster)
            resources = {"cpus_per_task": cpus, "gpus_per_node": 1 if gpus < 0 else int(gpus), "name": "kdbench"}
            if jobs and cluster == "slurm":
                resources["slurm_array_parallelism"] = jobs
            self.executor.update_parameters(**{"timeout_min": 24 * 60, **resources, **settings})
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise KdbenchError(f"Slurm: {' '.join(str(error).split())}") from None
        self.max_jobs = 0 if cluster == "slurm" else jobs
        self._wave: list[tuple[Any, Any]] = []
        self._busy: dict[Any, Any] = {}

    def __enter__(self) -> SlurmPool:
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if kind is not None:
            for job in self._busy:
                job.cancel()

    def stop(self) -> bool:
        """Jobs are cancelled when the pool is left."""
        return False

    @property
    def has_room(self) -> bool:
        """The queue takes everything; jobs at a time are the array's limit."""
        return not self.max_jobs or len(self._busy) + len(self._wave) < self.max_jobs

    def has_room_for(self, kind: str, *, alone: bool = False) -> bool:
        """The engine itself keeps tasks apart."""
        return self.has_room

    @property
    def is_busy(self) -> bool:
        """Whether a job is queued or under way."""
        return bool(self._busy or self._wave)

    def start(self, key: Any, fn: Callable[..., Any], *args: Any, kind: str = "", alone: bool = False) -> None:
        """Take a task into the next array."""
        self._wave.append((key, Requeued(fn, args)))

    def finished(self, timeout: float | None = None) -> Iterator[tuple[Any, Outcome]]:
        """Submit the wave, then wait for at least one job, or ``timeout`` seconds."""
        if self._wave:
            with self.executor.batch():
                jobs = [self.executor.submit(task) for _, task in self._wave]
            self._busy |= {job: key for job, (key, _) in zip(jobs, self._wave)}
            self._wave = []
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            done = [job for job in self._busy if job.done()]
            if done or (deadline is not None and time.monotonic() >= deadline):
                break
            time.sleep(self.poll)
        for job in done:
            key = self._busy.pop(job)
            try:
                yield key, job.result()
            except Exception as error:  # noqa: BLE001 - whatever ended the job, the rest of the grid goes on
                yield (
                    key,
                    Outcome(error=f"job {job.job_id}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"),
                )


class Requeued:
    """A task that submitit may submit again when its job is preempted or runs out of time."""

    def __init__(self, fn: Callable[..., Any], args: Sequence[Any]) -> None:
        self.fn, self.args = fn, args

    def __call__(self) -> Outcome:
        return guarded(self.fn, self.args)

    def checkpoint(self) -> Any:
        """The same task again: a run goes on from its own checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _import(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise KdbenchError(f"{module} is not installed: pip install 'kdbench[{extra}]'") from None
