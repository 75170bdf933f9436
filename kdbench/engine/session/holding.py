"""One process at a run: a lock on its folder, and what killed processes left there."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kdbench.engine.run_folder import RunFolder
from kdbench.errors import RunBusyError

log = logging.getLogger(__name__)
LOCK, HOLDER = ".lock", ".holder.json"


class Holding:
    """A run's folder, held until :meth:`release` or the end of this process, however that ends.

    The system's own lock on a file (``fcntl`` or its counterpart, through ``filelock``): that of a dead process is gone with it,
    and file systems that are shared over a network know it. Where there is none, a warning says so.

    Args:
        folder: of the run; it is made.

    Raises:
        RunBusyError: another process has it; the message says which.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._lock: Any = FileLock(folder.path / LOCK, timeout=0)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise RunBusyError(
                f"{folder.path} is being trained{_holder(folder.path)}; wait for it, or stop it", folder.path
            ) from None
        except (OSError, NotImplementedError) as error:
            log.warning("%s cannot be locked (%s): see to it that no other process trains it", folder.path, error)
            self._lock = None
            return
        self._sweep()
        with contextlib.suppress(OSError):
            mine = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            (folder.path / HOLDER).write_text(json.dumps(mine), encoding="utf-8")

    def release(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.folder.path / HOLDER).unlink()
            self._lock.release()

    def _sweep(self) -> None:
        """Delete the temporary files of processes that were killed at this run: nobody else writes here now."""
        for file in self.folder.path.glob(".*"):
            if file.is_file() and file.name not in (LOCK, HOLDER):
                with contextlib.suppress(OSError):
                    file.unlink()
                    log.info("%s was left by a process that is gone and is deleted", file)


@contextlib.contextmanager
def alone_at(path: Path, *, make: bool) -> Iterator[bool]:
    """Whether no process is at a run, and none comes within; False, too, where that cannot be told.

    Args:
        path: of the run's folder.
        make: the lock's file, where there is none; otherwise nobody is at the run, and one may come.
    """
    if not make and not (path / LOCK).exists():
        yield True
        return
    lock = FileLock(path / LOCK, timeout=0)
    try:
        lock.acquire()
    except (Timeout, OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _holder(path: Path) -> str:
    """Who holds it, in words; empty where that is not known."""
    try:
        found = json.loads((path / HOLDER).read_text(encoding="utf-8"))
        return f" by process {found['process']} on {found['host']}, since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
