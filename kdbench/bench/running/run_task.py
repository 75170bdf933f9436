"""One run of a grid, in a worker: the lock held, trained, and recorded."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

from yacs.config import CfgNode

from kdbench.bench.grids.lock import BusyError, LockLostError, held
from kdbench.bench.grids.state import write_state
from kdbench.bench.running.torchrun import train_in_processes
from kdbench.engine.identity.brought import brought_code
from kdbench.engine.result import RunResult
from kdbench.engine.run import train
from kdbench.errors import KdbenchError

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
        The result and the seconds that it took here (little, when it was done already), or :data:`BUSY` while another
        process is at it, or has taken it over.
    """
    if cwd:
        os.chdir(cwd)  # a worker of a cluster starts elsewhere
    if imports:
        from kdbench.plugins import import_plugins

        import_plugins(imports)
    if code is not None and (changed := changed_code(code, brought_code(cfg))):
        raise KdbenchError(
            f"{changed} changed while the grid was under way; run the grid again, which begins with the new code"
        )
    started = time.perf_counter()
    try:
        with held(folder, key) as lock:
            if processes > 1:
                result = train_in_processes(cfg, processes, folder, key, lock, imports)
            else:
                result = train(cfg, progress=lambda *_: lock.check())
            write_state(folder, key, {"status": "done", "run": result.run_id, "seconds": time.perf_counter() - started})
    except BusyError:
        return BUSY
    except LockLostError as error:
        log.warning("%s", error)
        return BUSY
    return result, time.perf_counter() - started


def changed_code(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Names of the modules whose digests differ."""
    return ", ".join(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
