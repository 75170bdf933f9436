"""A frozen teacher's outputs on disk, shared by every run that sees the same images.

One folder a key; in it ``meta.json`` and one file a view (an augmented epoch): a row a draw, logits then penultimate features,
and a checksum at the end. A view is written to a temporary file while an epoch is trained and takes its name when the epoch
is complete, so that readers see whole views only and writers do not disturb each other.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from kdbench.data.teacher_cache.view import DTYPES, ViewShape, ViewWriter, whole
from kdbench.records import is_count, read_record, set_aside, write_record

__all__ = ["ViewShape", "TeacherCache", "ViewWriter", "cache_folders", "cache_key", "cache_root", "folder_bytes"]

log = logging.getLogger(__name__)
VERSION = 1
META = "meta.json"
#: subfolders of the caches' folder for what is remembered of teachers
ACCURACY, WEIGHTS = "accuracy", "weights"
_KEY = re.compile(r"[0-9a-f]{16}")
_TEMPORARY = (".view*.tmp", f".{META}.*")
_META = dict.fromkeys(("key", "layout", "spec"), lambda value: isinstance(value, dict))
_ABANDONED = 24 * 3600.0  # a running epoch writes to its file all the time


def cache_root(cfg: CfgNode) -> Path:
    """Folder of the caches."""
    return Path(cfg.CACHE.DIR or Path(cfg.LOG.PREFIX) / ".teacher-cache")


def cache_key(parts: Mapping[str, Any]) -> str:
    """Folder name for what determines a teacher's outputs."""
    text = json.dumps({"version": VERSION, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class TeacherCache:
    """The views of one key.

    Args:
        root: folder of all caches.
        key: from :func:`cache_key`.
        max_bytes: budget of the whole ``root``.
    """

    def __init__(self, root: Path, key: str, max_bytes: int) -> None:
        self.root, self.folder, self.max_bytes = root, root / key, max_bytes
        self.writable = True

    def read_meta(self) -> dict[str, Any] | None:
        """What the run that made the cache recorded (spec, stages, layout, the key's parts), or None where nothing is usable. A
        damaged record is set aside, in a warning; the views stay, since the key says all that they depend on."""
        try:
            meta = read_record(self.folder / META, {"version": is_count}, _META)
            if "layout" in meta:
                ViewShape(**meta["layout"])
        except OSError:
            return None
        except (ValueError, TypeError) as error:
            set_aside(self.folder / META, error, "the teacher is asked anew what the cache is of")
            return None
        if meta["version"] != VERSION:
            log.warning(
                "teacher cache %s is of version %s, not %d, and is not used", self.folder, meta["version"], VERSION
            )
            return None
        return meta

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Make the folder and its record, unless another run has done so; a folder that cannot be written turns writing off,
        with a warning. A folder without record is one that another run is making, and its files are left alone."""
        try:
            if self.read_meta() is not None:
                return
            if (self.folder / META).is_file():
                for file in self.folder.glob("view*.bin"):  # of a version that this one does not read
                    file.unlink(missing_ok=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_record(self.folder / META, {"version": VERSION, **meta}, indent=1)
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """Go on without writing."""
        self.writable = False
        log.warning(
            "teacher cache %s cannot be written (%s); training goes on with the live teacher",
            self.folder,
            error.strerror,
        )

    def path(self, view: int) -> Path:
        """File of a view."""
        return self.folder / f"view{view:05d}.bin"

    def open(self, view: int, layout: ViewShape) -> np.ndarray | None:
        """(rows, columns) memory map of a complete view, or None; a damaged file is deleted, in a warning. One that another
        run evicts in the meantime is one that is not there."""
        file = self.path(view)
        try:
            if not whole(file, layout):
                log.warning("teacher cache %s is damaged and is made anew", file)
                file.unlink()
                return None
            rows = np.memmap(file, DTYPES[layout.dtype], "r", shape=(layout.rows, layout.columns))
        except OSError:
            return None
        with contextlib.suppress(OSError):
            os.utime(self.folder)  # eviction takes the folder that was used longest ago
        return rows

    def make_room(self, needed: int) -> bool:
        """Whether ``needed`` more bytes fit into the budget, after deleting what killed runs left and evicting the keys that
        were used longest ago. Other runs may delete the same at the same time."""
        if needed > self.max_bytes:
            return False
        _sweep(self.root)
        sizes = {folder: folder_bytes(folder) for folder in _folders(self.root)}
        others = sorted((f for f in cache_folders(self.root) if f != self.folder), key=_last_use)
        while others and sum(sizes.values()) + needed > self.max_bytes:
            oldest = others.pop(0)
            log.info("teacher cache: evicting %s (%.1f MB)", oldest.name, sizes.pop(oldest, 0) / 1e6)
            shutil.rmtree(oldest, ignore_errors=True)
        return sum(sizes.values()) + needed <= self.max_bytes


def cache_folders(root: Path) -> list[Path]:
    """Folders of caches below ``root``."""
    return sorted(folder for folder in _subfolders(root) if (folder / META).is_file())


def folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder; 0 for one that is gone."""
    total = 0
    for file in _entries(folder):
        with contextlib.suppress(OSError):  # another run may just have renamed it
            total += file.stat().st_size
    return total


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _subfolders(root: Path) -> Iterator[Path]:
    return (entry for entry in _entries(root) if entry.is_dir())


def _folders(root: Path) -> list[Path]:
    """Folders of caches, and those named like one that hold no record: being made, or left by a killed run."""
    return [f for f in _subfolders(root) if (f / META).is_file() or _KEY.fullmatch(f.name)]


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _sweep(root: Path) -> None:
    """Delete temporary files that nobody has written to for a day, and folders without record as old as that."""
    for folder in _folders(root):
        if not (folder / META).is_file() and _abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
        for file in abandoned(folder):
            with contextlib.suppress(OSError):
                file.unlink()


def abandoned(folder: Path) -> list[Path]:
    """Temporary files of a cache that nobody has written to for a day."""
    return [file for file in _temporary(folder) if _abandoned(file)]


def being_filled(folder: Path) -> bool:
    """Whether a run may be writing a view of this cache: it has a temporary file that is not abandoned."""
    return not all(map(_abandoned, _temporary(folder)))


def _temporary(folder: Path) -> list[Path]:
    return [file for file in _entries(folder) if any(fnmatch.fnmatch(file.name, one) for one in _TEMPORARY)]


def _abandoned(path: Path) -> bool:
    return 0.0 < _last_use(path) < time.time() - _ABANDONED
