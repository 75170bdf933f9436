"""The state of a grid, in its folder: ``grid.json`` (what it consists of) and ``.state/`` (a file a run, a lock a claimed run).

Nothing here imports torch, so that ``kdbench grid --status`` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdbench.engine.run_folder import write_atomically

log = logging.getLogger(__name__)
GRID_FILE, STATE_DIR = "grid.json", ".state"
#: seconds between signs of life of a claimed run, and without one until another process takes it over
BEAT, STALE = 5.0, 60.0


class BusyError(Exception):
    """Another live process is at this run."""


def read_states(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What is known of each run by key: ``{"status": "done", "run": ...}`` or ``{"status": "failed", "error": ...}``; a run that is
    under way is ``{"status": "running", "host": ..., "since": ...}``. Unreadable files are left out."""
    states: dict[str, dict[str, Any]] = {}
    now = time.time()
    try:
        entries = list(os.scandir(Path(folder) / STATE_DIR))
    except FileNotFoundError:
        return {}
    for entry in entries:
        key, _, suffix = entry.name.partition(".")
        record = _read(entry.path) if suffix in ("json", "lock") else None
        if record is None or (suffix == "lock" and (key in states or _is_stale(entry.path, record, now))):
            continue
        states[key] = {**record, "status": "running"} if suffix == "lock" else record
    return states


def write_state(folder: str | Path, key: str, record: Mapping[str, Any]) -> None:
    """Record what became of a run."""
    path = Path(folder) / STATE_DIR
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / f"{key}.json", json.dumps(dict(record)) + "\n")


def clear_failures(folder: str | Path) -> int:
    """Forget recorded failures, so that they are tried again; returns their number."""
    count = 0
    for key, record in read_states(folder).items():
        if record["status"] == "failed":
            (Path(folder) / STATE_DIR / f"{key}.json").unlink(missing_ok=True)
            count += 1
    return count


def read_grid_record(folder: str | Path) -> dict[str, Any] | None:
    """``grid.json`` with the runs and errors of its cells filled in from the state; None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    file = Path(folder) / GRID_FILE
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        keyed = any("key" in cell for cell in record["cells"])
        states = read_states(folder) if keyed else {}
        for cell in record["cells"]:
            state = states.get(cell.get("key", ""), {})
            cell["run"] = cell.get("run") or state.get("run")
            cell["error"] = "" if cell["run"] else cell.get("error") or state.get("error", "")
    except (KeyError, TypeError, AttributeError, OSError) as error:
        raise ValueError(str(error)) from None
    return record


@contextlib.contextmanager
def claimed(folder: str | Path, key: str, *, beat: float = BEAT, stale: float = STALE) -> Iterator[None]:
    """Hold a run's lock, with a sign of life every ``beat`` seconds.

    A lock is taken over when its owner has been silent for ``stale`` seconds or is a dead process of this machine.

    Raises:
        BusyError: somebody else holds it.
    """
    path = Path(folder) / STATE_DIR / f"{key}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex, "since": time.time()}
    _take(path, owner, stale)
    stop = threading.Event()
    thread = threading.Thread(target=_keep_alive, args=(path, stop, beat), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if (_read(path) or {}).get("token") == owner["token"]:
            path.unlink(missing_ok=True)


def _take(path: Path, owner: Mapping[str, Any], stale: float) -> None:
    # Whoever looks whether a lock is stale and whoever replaces it must not be interleaved with another such process.
    with _guard(path.parent):
        record = _read(path)
        if path.exists() and not _is_stale(path, record, time.time(), stale):
            raise BusyError(
                f"{path.name} is held by process {(record or {}).get('pid')} of {(record or {}).get('host')}"
            )
        write_atomically(path, json.dumps(dict(owner)))


@contextlib.contextmanager
def _guard(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # no such locks on this system; the window is a few milliseconds
        yield
        return
    with (folder / ".guard").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)


def _is_stale(path: str | Path, record: Mapping[str, Any] | None, now: float, stale: float = STALE) -> bool:
    try:
        silent = now - os.stat(path).st_mtime
    except FileNotFoundError:
        return True
    if record is not None and record.get("host") == socket.gethostname() and not _is_alive(int(record.get("pid", 0))):
        return True
    return silent > stale


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    try:
        # a killed child that nobody has waited for yet still has a number
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def _keep_alive(path: Path, stop: threading.Event, beat: float) -> None:
    while not stop.wait(beat):
        with contextlib.suppress(OSError):
            os.utime(path)


def _read(path: str | Path) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
