"""The state of a grid, in its folder: ``grid.json`` (what it consists of) and ``.state/`` (a file a run, a lock a run that is
under way, the whole traceback of a failed one).

Nothing here imports torch, so that ``kdbench grid --status`` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdbench.bench.grids.lock import STATE_DIR, is_stale, read_record
from kdbench.engine.result import RunResult
from kdbench.engine.run_folder import RunFolder
from kdbench.files import write_atomically

log = logging.getLogger(__name__)
GRID_FILE = "grid.json"


def read_states(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What is known of each run by key: ``{"status": "done", "run": ...}`` or ``{"status": "failed", "error": ...}``; a run that is
    under way is ``{"status": "running", "host": ..., "since": ..., "epoch": ..., "epochs": ...}``, with what its worker noted last.
    Unreadable files are left out."""
    states: dict[str, dict[str, Any]] = {}
    now = time.time()
    try:
        entries = list(os.scandir(Path(folder) / STATE_DIR))
    except FileNotFoundError:
        return {}
    for entry in entries:
        key, _, suffix = entry.name.partition(".")
        record = read_record(entry.path) if suffix in ("json", "lock") else None
        if record is None or (suffix == "lock" and (key in states or is_stale(entry.path, record, now))):
            continue
        states[key] = {**record, "status": "running"} if suffix == "lock" else record
    return states


def write_state(folder: str | Path, key: str, record: Mapping[str, Any], *, trace: str = "") -> None:
    """Record what became of a run; of a failed one ``<key>.log`` keeps the whole traceback."""
    path = Path(folder) / STATE_DIR
    path.mkdir(parents=True, exist_ok=True)
    if trace:
        write_atomically(path / f"{key}.log", trace)
    else:
        (path / f"{key}.log").unlink(missing_ok=True)
    write_atomically(path / f"{key}.json", json.dumps(dict(record)) + "\n")


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


def finished_run(folder: str | Path, key: str, states: dict[str, dict[str, Any]] | None = None) -> RunResult | None:
    """The result of a run that is recorded as done, if its folder is still there."""
    record = (read_states(folder) if states is None else states).get(key, {})
    if record.get("status") != "done":
        return None
    run = RunFolder(Path(folder) / str(record["run"]))
    try:
        return RunResult.read(run) if run.done else None
    except (ValueError, OSError):
        return None
