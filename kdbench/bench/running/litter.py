"""What could go of a folder: files of processes that are gone, damaged ones, what finished runs and no runs need."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kdbench.bench.grids.lock import STALE, STATE_DIR, clear_stale, is_stale, read_lock
from kdbench.bench.grids.owner import is_alive
from kdbench.config.yaml_text import StrictLoader
from kdbench.data.teacher_cache.cache import ACCURACY, META, WEIGHTS, abandoned, being_filled, folder_bytes
from kdbench.engine.identity.images import FOLDER as IMAGES
from kdbench.engine.result import RunResult
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.session.holding import HOLDER, alone_at
from kdbench.engine.training.saving.checkpoint import previous
from kdbench.errors import KdbenchError
from kdbench.files import file_size
from kdbench.records import read_record

_KEY = re.compile(r"[0-9a-f]{16}")
#: names of the files that kdbench writes, in each kind of folder; only what was made of one of these is litter
_RUN = "config.yaml|inputs.json|metrics.jsonl|timing.jsonl|checkpoint.pt|checkpoint.previous.pt|student.safetensors|result.json"
_GRID, _CACHE, _RECORDS = "grid[.]json|sweep[.]journal", META, "[0-9a-f]{16}[.](?:json|lock|log)"
_SET_ASIDE, _GONE = "damaged, and set aside", "temporary file of a process that is gone"
#: keys of a cache's record that say which runs may use it, with those of a run's configuration
_USED_BY = {
    "dtype": ("CACHE", "DTYPE"),
    "views": ("CACHE", "VIEWS"),
    "batch_size": ("SOLVER", "BATCH_SIZE"),
    "repeat": ("DATASET", "REPEAT"),
    "aug_repeats": ("DATASET", "AUG_REPEATS"),
}


@dataclass(frozen=True)
class Litter:
    """A file or folder that could go: its bytes, and why."""

    path: Path
    size: int
    why: str


@dataclass(frozen=True)
class Found:
    """What could go, and the folders of runs that were left alone, because a process is at them or that cannot be told."""

    litter: list[Litter]
    held: list[Path]


def find_litter(folder: str | Path, *, delete: bool = False) -> Found:
    """Look through a folder and all below it. What a living process holds is left alone, and so is what kdbench did not write.

    Args:
        folder: of runs, of a grid, or above several.
        delete: what is found; of a run only while nobody else is at it.

    Raises:
        KdbenchError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise KdbenchError(f"no folder {str(folder)!r}")
    found: list[Litter] = []
    held: list[Path] = []
    caches: list[Path] = []
    configs: list[Mapping[str, Any] | None] = []
    for name, folders, files in os.walk(folder):
        folders.sort()
        place, there = Path(name), set(files)
        if "config.yaml" in there and there & {"inputs.json", "checkpoint.pt", "result.json"}:
            configs.append(_config(place / "config.yaml"))
            with alone_at(place, make=delete) as alone:
                if alone:
                    found += _removed(_of_run(RunFolder(place)), delete)
                else:
                    held.append(place)
        elif _KEY.fullmatch(place.name) and META in there:
            caches.append(place)
            left = (Litter(file, file_size(file), _GONE) for file in abandoned(place))
            found += _removed([*_named(place, _CACHE), *left], delete)
        elif place.name in (STATE_DIR, ACCURACY, WEIGHTS, IMAGES):
            found += _removed(_named(place, _RECORDS), delete)
            found += _locks(place, delete) if place.name == STATE_DIR else []
        else:
            found += _removed(_named(place, _GRID), delete)
    unused = [
        Litter(place, folder_bytes(place), "teacher outputs that no run here uses")
        for place in caches
        if not (_is_used(place, configs) or being_filled(place))  # by a run that lies elsewhere
    ]
    return Found([*found, *_removed(unused, delete)], held)


def _removed(litter: Iterable[Litter], delete: bool) -> list[Litter]:
    """The litter; deleted where asked, without what cannot be."""
    gone = []
    for one in litter:
        try:
            if delete:
                shutil.rmtree(one.path) if one.path.is_dir() else one.path.unlink()
        except OSError:
            continue
        gone.append(one)
    return gone


def _of_run(folder: RunFolder) -> Iterator[Litter]:
    """Of a run that nobody is at: its temporary files are those of dead processes."""
    yield from _named(folder.path, _RUN, held=True)
    holder, last = folder.path / HOLDER, previous(folder.checkpoint)
    if holder.is_file():
        yield Litter(holder, file_size(holder), "name of a process that is gone")
    if last.is_file() and _is_finished(folder):
        yield Litter(last, file_size(last), "checkpoint before the last of a finished run")


def _is_finished(folder: RunFolder) -> bool:
    try:
        return folder.done and not RunResult.read(folder).student_fault(folder)
    except (OSError, ValueError):
        return False


def _named(place: Path, names: str, *, held: bool = False) -> Iterator[Litter]:
    """Damaged and temporary files by the names of those that they were to be; ``held``: nobody else writes here now."""
    try:
        files = sorted(place.iterdir())
    except OSError:  # gone, or not for us to read
        return
    for file in files:
        if file.is_symlink() or not file.is_file():
            continue
        match = re.fullmatch(rf"[.](?:{names})[.](?:(\d+)(?:[.](?:tmp|library))?|[0-9a-f]{{32}})", file.name)
        if re.fullmatch(rf"(?:{names})[.]damaged", file.name):
            yield Litter(file, file_size(file), _SET_ASIDE)
        elif match and (held or _is_left(file, match[1])):
            yield Litter(file, file_size(file), _GONE)


def _is_left(file: Path, process: str | None) -> bool:
    """Whether nobody writes a temporary file any more: it is silent, and no process here has the number in its name."""
    with contextlib.suppress(OSError):
        silent = time.time() - file.stat().st_mtime
        return silent > STALE and not (process and is_alive(int(process)))
    return False


def _locks(place: Path, delete: bool) -> list[Litter]:
    found = []
    for file in sorted(place.glob("[!.]*.lock")):
        if is_stale(file, read_lock(file), time.time()):
            one = Litter(file, file_size(file), "lock of a process that is gone")
            if not delete or clear_stale(file):
                found.append(one)
    return found


def _config(file: Path) -> Mapping[str, Any] | None:
    """A run's configuration; None where it cannot be read."""
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), StrictLoader)
        return tree if isinstance(tree, dict) else None
    except (OSError, ValueError, KdbenchError, yaml.YAMLError, RecursionError):
        return None


def _is_used(place: Path, configs: list[Mapping[str, Any] | None]) -> bool:
    """Whether a run may use a cache; one whose configuration or record cannot be read may."""
    try:
        key = read_record(place / META, {"key": lambda value: isinstance(value, dict)}, {})["key"]
    except (OSError, ValueError):
        return True
    return any(config is None or _may_use(config, key) for config in configs)


def _may_use(config: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    def value(section: str, name: str) -> Any:
        node = config.get(section)
        return node.get(name) if isinstance(node, dict) else None

    if value("CACHE", "ENABLED") is False:
        return False
    seed = value("DATASET", "AUG_SEED")
    wanted = {name: value(*place) for name, place in _USED_BY.items()}
    wanted["aug_seed"] = value("EXPERIMENT", "SEED") if seed == -1 else seed
    teacher = key.get("teacher")
    pairs = [(wanted[name], key[name]) for name in wanted if name in key]
    if isinstance(teacher, dict) and "name" in teacher:
        several = value("DISTILLER", "TEACHERS") or []
        names = [entry.get("MODEL") for entry in several] or [value("DISTILLER", "TEACHER")]
        if teacher["name"] not in names and None not in names:
            return False
    return all(mine is None or mine == its for mine, its in pairs)
