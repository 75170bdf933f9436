"""The lock of a run: a file with a sign of life, so that of all processes on all machines one does the run.

The library ``filelock``, which guards a run's folder (:mod:`kdbench.engine.session.holding`), is no substitute: a lock of the
system stays with an owner that is stopped or hangs, and there is none on file systems without ``flock``. Its soft locks know dead
owners on one host alone, where here silence tells those of other machines, and the owner learns of its loss.

Nothing here imports torch, so that ``kdbench grid --status`` answers at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdbench.bench.grids.owner import is_alive, myself, start_time

log = logging.getLogger(__name__)
STATE_DIR = ".state"
#: seconds between signs of life of a held lock, and without one until another process takes it over
BEAT, STALE = 5.0, 60.0
#: least seconds between two notes in a held lock
NOTE = 2.0


class BusyError(Exception):
    """Another live process is at this run."""


class LockLostError(Exception):
    """Another process has taken this run over; whoever held it must write no more. No failure of the run."""


class RunLock:
    """A held lock. A process that was stopped, or whose file system hung, may have lost it meanwhile without a word.

    Args:
        path: the lock's file.
        token: what tells it from another owner's.
        beat: seconds after which :meth:`check` looks at the file again.
        taken: when it was taken, in nanoseconds of the file system's clock.
    """

    def __init__(self, path: Path, token: str, beat: float, taken: int = 0) -> None:
        self.path, self.token, self.beat, self.taken = path, token, beat, taken
        self._looked = time.monotonic()
        self._noted = float("-inf")
        self._lost = False

    @property
    def is_held(self) -> bool:
        """Whether the lock's file is still this owner's; once lost is lost. A file that cannot be read says nothing."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))["token"]
        except FileNotFoundError:
            found = ""
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return not self._lost
        self._lost = self._lost or found != self.token
        self._looked = time.monotonic()
        return not self._lost

    def check(self) -> None:
        """Raise where the lock is known to be lost; looks at the file when the last look is older than a beat.

        Raises:
            LockLostError: it is lost.
        """
        if self._lost or (time.monotonic() - self._looked >= self.beat and not self.is_held):
            raise LockLostError(
                f"another process has taken over this run ({self.path.name}) because this one gave no sign of life; stopping"
            )

    def note(self, facts: Callable[[], Mapping[str, Any]], *, among: int = 1) -> None:
        """Put facts into the lock's record, for whoever looks on: as a whole, at most once in :data:`NOTE` seconds, or as often
        less as this process has more than four locks to do so with: renaming files took a tenth of the time of a hundred runs.

        Never an error, and never waits: what cannot be written (a full disk, no locks on this file system) is left out. Nothing is
        written over the record of another owner.

        Args:
            facts: gives them; called only when they are written.
            among: the number of locks that this process holds.
        """
        now = time.monotonic()
        if now - self._noted < NOTE * max(1.0, among / 4):
            return
        self._noted = now
        with contextlib.suppress(OSError), _guard(self.path.parent, wait=False) as guarded:
            record = read_lock(self.path) if guarded else None
            if record is not None and record.get("token") == self.token:
                temporary = self.path.with_name(f".{self.path.name}.{self.token}")
                temporary.write_text(json.dumps({**record, **facts()}), encoding="utf-8")
                os.replace(temporary, self.path)


@contextlib.contextmanager
def held(folder: str | Path, key: str, *, beat: float = BEAT, stale: float = STALE) -> Iterator[RunLock]:
    """Hold a run's lock, with a sign of life every ``beat`` seconds.

    An owner on this machine (same boot, same process namespace) holds it as long as its process lives, and no longer. Of any
    other, silence tells: the lock is taken over after ``stale`` seconds without a sign of life.

    Raises:
        BusyError: somebody else holds it.
    """
    path = Path(folder) / STATE_DIR / f"{key}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = {**myself(), "token": uuid.uuid4().hex, "since": time.time()}
    taken = _take(path, owner, stale)
    lock = RunLock(path, owner["token"], beat, taken)
    stop = threading.Event()
    thread = threading.Thread(target=_keep_alive, args=(lock, stop, beat), daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        stop.set()
        thread.join()
        if lock.is_held:
            path.unlink(missing_ok=True)


def is_stale(path: str | Path, record: Mapping[str, Any] | None, now: float, stale: float = STALE) -> bool:
    """Whether nobody holds a lock any more."""
    try:
        silent = now - os.stat(path).st_mtime
    except FileNotFoundError:
        return True
    here = myself()
    pid = (record or {}).get("pid")
    if (
        record is not None
        and isinstance(pid, int)
        and all(record.get(k) == here[k] for k in ("host", "boot", "namespace"))
    ):
        if not is_alive(pid):
            return True
        started = start_time(pid)
        if started and record.get("start"):
            # a number is given out again, but not with the same start
            return started != record["start"]
    return silent > stale


def read_lock(path: str | Path) -> dict[str, Any] | None:
    """What a lock says; None where it is damaged or gone."""
    try:
        with open(path, encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _take(path: Path, owner: Mapping[str, Any], stale: float) -> int:
    """Make the lock's file; returns its time in nanoseconds."""
    # Whoever looks whether a lock is stale and whoever replaces it must not be interleaved with another such process.
    with _guard(path.parent):
        record = read_lock(path)
        if path.exists():
            if not is_stale(path, record, time.time(), stale):
                raise _busy(path, record)
            _remove(path, record)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:  # somebody was faster; only where there is no guard
            raise _busy(path, read_lock(path)) from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(owner)))
            stream.flush()
            os.fsync(stream.fileno())
            return os.fstat(descriptor).st_mtime_ns


def _remove(path: Path, record: Mapping[str, Any] | None) -> None:
    """Take a stale lock away; of several processes without a guard, one gets it."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    moved = read_lock(aside)
    if (moved or {}).get("token") != (record or {}).get("token"):
        # between the look and the move another process had taken it over: give it back
        with contextlib.suppress(OSError):
            os.link(aside, path)
        aside.unlink(missing_ok=True)
        raise _busy(path, moved)
    aside.unlink(missing_ok=True)


def clear_stale(path: Path) -> bool:
    """Take away a lock that nobody holds any more; whether that was so."""
    with _guard(path.parent):
        record = read_lock(path)
        if not path.exists() or not is_stale(path, record, time.time()):
            return False
        try:
            _remove(path, record)
        except BusyError:
            return False
        return True


def _busy(path: Path, record: Mapping[str, Any] | None) -> BusyError:
    return BusyError(f"{path.name} is held by process {(record or {}).get('pid')} of {(record or {}).get('host')}")


@contextlib.contextmanager
def _guard(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keep other processes out of the folder's locks; False where that is not so: there are no such locks, or, without ``wait``,
    another process is inside."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: creating the file, which one process can, must do
        yield False
        return
    with (folder / ".guard").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                _warn_of_no_locks(str(folder), str(error.strerror))
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)


@functools.cache
def _warn_of_no_locks(folder: str, reason: str) -> None:
    log.warning("%s is on a file system without locks (%s): runs are locked by creating files alone", folder, reason)


def _keep_alive(lock: RunLock, stop: threading.Event, beat: float) -> None:
    while not stop.wait(beat):
        if not lock.is_held:
            return  # its sign of life would be the new owner's
        with contextlib.suppress(OSError):
            os.utime(lock.path)
