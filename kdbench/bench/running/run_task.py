"""One run of a grid, or several that are trained together, in a worker: the lock held, trained, and recorded."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yacs.config import CfgNode

from kdbench.bench.grids.lock import BusyError, LockLostError, RunLock, held
from kdbench.bench.grids.state import write_state
from kdbench.bench.machine.cards import memory_report
from kdbench.bench.running.pools.pool import Outcome, failure
from kdbench.bench.running.torchrun import train_in_processes
from kdbench.engine.identity.brought import brought_code
from kdbench.engine.result import RunResult
from kdbench.engine.run import train
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.session.cohort import train_cohort
from kdbench.errors import KdbenchError, RunBusyError, StorageError

log = logging.getLogger(__name__)
#: what comes back in the place of a result where another process is at the run
BUSY = "busy"


def run_task(
    cfg: CfgNode,
    imports: tuple[str, ...],
    folder: str,
    key: str,
    cwd: str = "",
    processes: int = 1,
    code: Mapping[str, str] | None = None,
) -> tuple[RunResult, float] | str:
    """One run, in a worker: take its lock, train, record what became of it.

    Args:
        cfg: its configuration.
        imports: modules to import first.
        folder: the grid's.
        key: the run's name in the grid's state.
        cwd: folder to work in; empty = the present one.
        processes: of the run; several are started through torchrun.
        code: digests of what the user brought, as the grid found them; None does without the comparison.

    Raises:
        KdbenchError: of the run, or the user's code was changed while the grid was under way.

    Returns:
        The result and the seconds that it took here (0 when it was done already), or :data:`BUSY` while another process is at
        it, or has taken it over.
    """
    _arrive(cwd, imports)
    _check_code(cfg, code)
    started = time.perf_counter()
    try:
        with held(folder, key) as lock:
            if processes > 1:
                result = train_in_processes(cfg, processes, folder, key, lock, imports)
            else:
                result = train(cfg, progress=lambda *at: _after_step(lock, cfg, *at))
            seconds = time.perf_counter() - started if _is_new(folder, result, lock) else 0.0
            write_state(folder, key, _done(result, seconds))
    except (BusyError, RunBusyError):
        return BUSY
    except LockLostError as error:
        log.warning("%s", error)
        return BUSY
    return result, seconds


@dataclass
class Member:
    """One of several runs that are trained together: its configuration, its key in the grid's state, and digests of what the user
    brought."""

    cfg: CfgNode
    key: str
    code: Mapping[str, str] = field(default_factory=dict)


def run_cohort(members: Sequence[Member], imports: tuple[str, ...], folder: str, cwd: str = "") -> list[Outcome]:
    """Several runs at once, in a worker; see :func:`kdbench.train_cohort`. Those that another process is at are left to it.

    Args:
        members: the runs.
        imports: modules to import first.
        folder: the grid's.
        cwd: folder to work in; empty = the present one.

    Returns:
        An outcome for each, whose value is that of :func:`run_task`; seconds are the cohort's, divided by
        those of its members that were not done already.
    """
    _arrive(cwd, imports)
    started = time.perf_counter()
    outcomes: dict[int, Outcome] = {}
    locks: dict[int, RunLock] = {}
    with contextlib.ExitStack() as stack:
        for number, member in enumerate(members):
            try:
                _check_code(member.cfg, member.code)
                locks[number] = stack.enter_context(held(folder, member.key))
            except BusyError:
                outcomes[number] = Outcome(BUSY)
            except KdbenchError as error:
                outcomes[number] = failure(error)
        held_ones = list(locks)

        def progress(place: int, epoch: int, step: int, steps: int) -> None:
            _after_step(locks[held_ones[place]], members[held_ones[place]].cfg, epoch, step, steps, len(held_ones))

        results = train_cohort([members[n].cfg for n in held_ones], progress=progress) if held_ones else []
        new = {n for n, one in zip(held_ones, results) if isinstance(one, RunResult) and _is_new(folder, one, locks[n])}
        each = (time.perf_counter() - started) / max(1, len(new))
        for number, result in zip(held_ones, results):
            if isinstance(result, RunBusyError):
                outcomes[number] = Outcome(BUSY)
            elif isinstance(result, LockLostError):
                log.warning("%s", result)
                outcomes[number] = Outcome(BUSY)
            elif isinstance(result, Exception):
                outcomes[number] = failure(result)
            else:
                seconds = each if number in new else 0.0
                try:
                    write_state(folder, members[number].key, _done(result, seconds))
                    outcomes[number] = Outcome((result, seconds))
                except StorageError as error:
                    outcomes[number] = failure(error)
    return [outcomes[number] for number in range(len(members))]


def _is_new(folder: str, result: RunResult, lock: RunLock) -> bool:
    """Whether a run was finished under this lock: both files have the times of one file system."""
    try:
        return RunFolder(Path(folder) / result.run_id).result.stat().st_mtime_ns >= lock.taken
    except OSError:
        return True


def _done(result: RunResult, seconds: float) -> dict[str, object]:
    """The state of a run; one that was done already took what its own result says."""
    return {"status": "done", "run": result.run_id, "seconds": seconds or result.seconds}


def _after_step(lock: RunLock, cfg: CfgNode, epoch: int, step: int, steps: int, among: int = 1) -> None:
    """Stop where the run was taken over; note how far it has come, and what this process takes of its GPU.

    Raises:
        LockLostError: another process has taken the run over.
    """
    lock.check()
    whole = epoch > cfg.SOLVER.EVAL_EVERY  # an evaluation, which may take more than a step, lies behind
    at = {"epoch": max(epoch, 1), "epochs": cfg.SOLVER.EPOCHS, "step": step if epoch > 0 else 0, "steps": steps}
    lock.note(lambda: {**at, **(memory_report() if whole else {})}, among=among)


def _arrive(cwd: str, imports: tuple[str, ...]) -> None:
    """Make a worker ready for a run."""
    if cwd:
        os.chdir(cwd)  # a worker of a cluster starts elsewhere
    if imports:
        from kdbench.plugins import import_plugins

        import_plugins(imports)


def _check_code(cfg: CfgNode, code: Mapping[str, str] | None) -> None:
    if code is not None and (changed := changed_code(code, brought_code(cfg))):
        raise KdbenchError(
            f"{changed} changed while the grid was under way; run the grid again, which begins with the new code"
        )


def changed_code(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Names of the modules whose digests differ."""
    return ", ".join(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
