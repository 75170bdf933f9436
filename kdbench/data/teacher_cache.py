"""A frozen teacher's outputs on disk, shared by every run that sees the same images.

One folder a key; in it ``meta.json`` and one file a view (an augmented epoch): a row a draw, logits then penultimate features,
and a checksum at the end. A view is written to a temporary file while an epoch is trained and takes its name when the epoch
is complete, so that readers see whole views only and writers do not disturb each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)
VERSION = 1
META = "meta.json"
_TRAILER = 16
_MAGIC = b"kdbenchT"
DTYPES = {"fp16": np.float16, "fp32": np.float32}
_CHUNK = 1 << 24


def cache_key(parts: Mapping[str, Any]) -> str:
    """Folder name for what determines a teacher's outputs."""
    text = json.dumps({"version": VERSION, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class CacheLayout:
    """Shape of a view: ``rows`` draws, ``classes`` logits and ``width`` features each, stored as ``dtype``."""

    rows: int
    classes: int
    width: int
    dtype: str

    @property
    def columns(self) -> int:
        """Numbers a row."""
        return self.classes + self.width

    @property
    def view_bytes(self) -> int:
        """Size of one view's file."""
        return self.rows * self.columns * np.dtype(DTYPES[self.dtype]).itemsize + _TRAILER


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
        """What the run that made the cache recorded (spec, accuracy, layout), or None where there is nothing usable."""
        file = self.folder / META
        if not file.is_file():
            return None
        try:
            meta = json.loads(file.read_text(encoding="utf-8"))
            version = meta["version"]
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("teacher cache %s is unreadable and is not used", self.folder)
            return None
        if version != VERSION:
            log.warning("teacher cache %s is of version %s, not %d, and is not used", self.folder, version, VERSION)
            return None
        return meta

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Make the folder and its record; a folder that cannot be written turns writing off, with a warning."""
        try:
            if self.folder.is_dir() and self.read_meta() is None:
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".{META}.{os.getpid()}"
            temporary.write_text(json.dumps({"version": VERSION, **meta}, indent=1), encoding="utf-8")
            os.replace(temporary, self.folder / META)
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

    def open(self, view: int, layout: CacheLayout) -> np.ndarray | None:
        """(rows, columns) memory map of a complete view, or None; a damaged file is deleted, in a warning."""
        file = self.path(view)
        if not file.is_file():
            return None
        if file.stat().st_size != layout.view_bytes or not _checksum_fits(file):
            log.warning("teacher cache %s is damaged and is made anew", file)
            with contextlib.suppress(OSError):
                file.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(self.folder)  # eviction takes the folder that was used longest ago
        return np.memmap(file, DTYPES[layout.dtype], "r", shape=(layout.rows, layout.columns))

    def make_room(self, needed: int) -> bool:
        """Whether ``needed`` more bytes fit into the budget, after evicting the keys that were used longest ago."""
        if needed > self.max_bytes:
            return False
        sizes = {folder: folder_bytes(folder) for folder in cache_folders(self.root)}
        others = sorted((f for f in sizes if f != self.folder), key=lambda f: f.stat().st_mtime)
        while others and sum(sizes.values()) + needed > self.max_bytes:
            oldest = others.pop(0)
            log.info("teacher cache: evicting %s (%.1f MB)", oldest.name, sizes.pop(oldest) / 1e6)
            shutil.rmtree(oldest, ignore_errors=True)
        return sum(sizes.values()) + needed <= self.max_bytes


class ViewWriter:
    """Fills one view. Nothing is visible under the view's name before :meth:`commit`.

    Args:
        cache: where the view belongs.
        view: its number.
        layout: its shape.
        owner: name of the run, so that two runs never share a temporary file.
        create: make the file (one process of a run does; the others open it).
    """

    def __init__(self, cache: TeacherCache, view: int, layout: CacheLayout, owner: str, *, create: bool = True) -> None:
        self.cache, self.view, self.layout = cache, view, layout
        self.file = cache.folder / f".view{view:05d}.{owner}.tmp"
        if create:
            with self.file.open("wb") as stream:
                # Reserve the blocks now: a full disk shall be an error here, not a signal in the middle of a memory map.
                os.posix_fallocate(stream.fileno(), 0, layout.view_bytes)
        self.rows = np.memmap(self.file, DTYPES[layout.dtype], "r+", shape=(layout.rows, layout.columns))
        if create:
            self.rows[:] = np.nan  # what nobody writes must not read as a number

    def write(self, draw: Tensor, logits: Tensor, penultimate: Tensor) -> None:
        """Store the rows of a batch."""
        self.rows[draw.numpy()] = torch.cat((logits, penultimate), dim=1).numpy()

    def commit(self) -> None:
        """Write the checksum and give the view its name."""
        self.rows.flush()
        del self.rows
        with self.file.open("r+b") as stream:
            stream.seek(self.layout.view_bytes - _TRAILER)
            stream.write(_MAGIC + _crc(self.file, self.layout.view_bytes - _TRAILER).to_bytes(8, "little"))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(self.file, self.cache.path(self.view))

    def discard(self) -> None:
        """Throw the temporary file away."""
        with contextlib.suppress(OSError):
            self.file.unlink()


def cache_folders(root: Path) -> list[Path]:
    """Folders of caches below ``root``."""
    return sorted(f for f in root.iterdir() if (f / META).is_file()) if root.is_dir() else []


def folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder."""
    total = 0
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another run may just have renamed it
            total += file.stat().st_size
    return total


def _crc(file: Path, size: int) -> int:
    value, left = 0, size
    with file.open("rb") as stream:
        while left > 0:
            part = stream.read(min(_CHUNK, left))
            value, left = zlib.crc32(part, value), left - len(part)
            if not part:
                break
    return value


def _checksum_fits(file: Path) -> bool:
    size = file.stat().st_size - _TRAILER
    with file.open("rb") as stream:
        stream.seek(size)
        trailer = stream.read(_TRAILER)
    return trailer[:8] == _MAGIC and int.from_bytes(trailer[8:], "little") == _crc(file, size)
