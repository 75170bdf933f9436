"""What became of each run of a grid, in the grid's folder below ``.state/``: a file a run, a lock a run that is under way, the
whole traceback of a failed one.

Nothing here imports torch, so that ``kdbench grid --status`` answers at once.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdbench.bench.grids.asked import contradiction
from kdbench.bench.grids.lock import STATE_DIR, is_stale, read_lock
from kdbench.engine.result import RunResult
from kdbench.engine.run_folder import RunFolder
from kdbench.errors import shown
from kdbench.files import stored, write_atomically
from kdbench.records import is_amount, is_name, is_text, read_record, set_aside, write_record

log = logging.getLogger(__name__)
_DONE, _FAILED = {"run": is_name}, {"error": is_text}
_MORE = {"key": is_text, "seconds": is_amount, "label": is_text}


def read_states(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What is known of each run by key: ``{"status": "done", "run": ...}`` or ``{"status": "failed", "error": ...}``; a run that is
    under way is ``{"status": "running", "host": ..., "since": ..., "epoch": ..., "epochs": ...}``, with what its worker noted last.
    A damaged file is set aside in a warning: the grid looks at its run again."""
    states: dict[str, dict[str, Any]] = {}
    now = time.time()
    try:
        entries = list(os.scandir(Path(folder) / STATE_DIR))
    except OSError:
        return {}
    for entry in entries:
        key, _, suffix = entry.name.partition(".")
        if not key or suffix not in ("json", "lock"):
            continue
        if suffix == "json":
            record = _read_state(Path(entry.path), key)
            if record is not None:
                states[key] = record
        elif key not in states:
            record = read_lock(entry.path)
            if record is not None and not is_stale(entry.path, record, now):
                states[key] = {**record, "status": "running"}
    return states


def _read_state(file: Path, key: str) -> dict[str, Any] | None:
    try:
        record = read_record(file, {"status": lambda value: value in ("done", "failed")}, _MORE)
        needed = _DONE if record["status"] == "done" else _FAILED
        for name, fits in needed.items():
            if not fits(record.get(name)):
                raise ValueError(f"its {name} is {record.get(name)!r:.40}")
        if record.get("key", key) != key:
            raise ValueError(f"it is the state of {shown(record['key'], 40)}")
        return record
    except FileNotFoundError:  # another process has just forgotten it
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s)", file, error.strerror)
        return None
    except ValueError as error:
        set_aside(file, error, "the grid looks at its run again")
        return None


def write_state(folder: str | Path, key: str, record: Mapping[str, Any], *, trace: str = "") -> None:
    """Record what became of a run; of a failed one ``<key>.log`` keeps the whole traceback.

    Raises:
        StorageError: it cannot be written.
    """
    path = Path(folder) / STATE_DIR
    with stored(path / f"{key}.json"):
        path.mkdir(parents=True, exist_ok=True)
        if trace:
            write_atomically(path / f"{key}.log", trace)
        else:
            (path / f"{key}.log").unlink(missing_ok=True)
        write_record(path / f"{key}.json", {**record, "key": key})


def clear_failures(folder: str | Path, keys: Iterable[str]) -> int:
    """Forget the recorded failures of these runs, so that they are tried again; returns their number. Other grids that share the
    folder keep theirs."""
    count, states = 0, read_states(folder)
    for key in keys:
        if states.get(key, {}).get("status") == "failed":
            for suffix in ("json", "log"):
                (Path(folder) / STATE_DIR / f"{key}.{suffix}").unlink(missing_ok=True)
            count += 1
    return count


def finished_run(
    folder: str | Path, key: str, states: dict[str, dict[str, Any]], asked: Mapping[str, Any]
) -> RunResult | None:
    """The result of a run that is recorded as done, if its folder is still there and says that it is the run that was asked for. A
    state that names another run is set aside, in a warning, and forgotten.

    Args:
        folder: the grid's.
        key: of the run.
        states: from :func:`read_states`.
        asked: what the run must be, see :data:`kdbench.bench.grids.asked.FACTS`.
    """
    record = states.get(key, {})
    if record.get("status") != "done":
        return None
    run = RunFolder(Path(folder) / str(record["run"]))
    try:
        result = RunResult.read(run) if run.done else None
    except (ValueError, OSError):
        return None
    if result is not None and (other := contradiction(asked, vars(result))):
        forget(folder, key, states, f"the run {run.path.name} is another one: {other}")
        return None
    return result


def forget(folder: str | Path, key: str, states: dict[str, dict[str, Any]], reason: str) -> None:
    """Set the state of a run aside, because it is not true."""
    states.pop(key, None)
    set_aside(Path(folder) / STATE_DIR / f"{key}.json", reason, "the grid looks at its run again")
