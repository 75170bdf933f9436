"""One view of the teacher cache as a file: a row a draw, logits then penultimate features, and a checksum at the end."""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kdbench.records import is_count

if TYPE_CHECKING:
    from kdbench.data.teacher_cache.cache import TeacherCache

DTYPES = {"fp16": np.float16, "fp32": np.float32}
_TRAILER = 16
#: before the checksum of the rows and of what the view is; earlier versions summed the rows alone
_MAGIC, _EARLIER = b"kdbenchV", b"kdbenchT"
_CHUNK = 1 << 24


@dataclass
class ViewShape:
    """Shape of a view: ``rows`` draws, ``classes`` logits and ``width`` features each, stored as ``dtype``.

    Raises:
        ValueError: a number that is none from 1, or a ``dtype`` that is not stored.
    """

    rows: int
    classes: int
    width: int
    dtype: str

    def __post_init__(self) -> None:
        for name in ("rows", "classes", "width"):
            value = getattr(self, name)
            if not is_count(value) or value < 1:
                raise ValueError(f"{name} of a view is {value!r:.40}")
        if self.dtype not in tuple(DTYPES):
            raise ValueError(f"dtype of a view is {self.dtype!r:.40}")

    @property
    def columns(self) -> int:
        """Numbers a row."""
        return self.classes + self.width

    def pack(self, logits: Tensor, penultimate: Tensor) -> Tensor:
        """(B, classes) and (B, width) -> (B, columns), a row a draw."""
        return torch.cat((logits, penultimate), dim=1)

    def unpack(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of :meth:`pack`."""
        logits, penultimate = rows.split((self.classes, self.width), dim=1)
        return logits, penultimate

    @property
    def view_bytes(self) -> int:
        """Size of one view's file."""
        return self.rows * self.columns * np.dtype(DTYPES[self.dtype]).itemsize + _TRAILER


def whole(file: Path, layout: ViewShape) -> bool:
    """Whether a file has the size of a view and the checksum that it ends in: of its rows, its name and its cache's key.

    Raises:
        OSError: it cannot be read.
    """
    if file.stat().st_size != layout.view_bytes:
        return False
    size = layout.view_bytes - _TRAILER
    with file.open("rb") as stream:
        stream.seek(size)
        trailer = stream.read(_TRAILER)
    begin = {_MAGIC: _start(file, layout), _EARLIER: 0}.get(trailer[:8])
    return begin is not None and int.from_bytes(trailer[8:], "little") == _crc(file, size, begin)


def _start(target: Path, layout: ViewShape) -> int:
    """What a checksum starts from, so that another view's rows, of this key or another one, are none of this view."""
    return zlib.crc32(f"{target.parent.name}/{target.name} {asdict(layout)}".encode())


class ViewWriter:
    """Fills one view. Nothing is visible under the view's name before :meth:`commit`.

    Args:
        cache: where the view belongs.
        view: its number.
        layout: its shape.
        owner: name of the run, so that two runs never share a temporary file.
        create: make the file (one process of a run does; the others open it).
    """

    def __init__(self, cache: TeacherCache, view: int, layout: ViewShape, owner: str, *, create: bool = True) -> None:
        self.target, self.layout = cache.path(view), layout
        self.file = cache.folder / f".view{view:05d}.{owner}.tmp"
        try:
            if create:
                with self.file.open("wb") as stream:
                    _reserve(stream, layout.view_bytes)
            self.rows = np.memmap(self.file, DTYPES[layout.dtype], "r+", shape=(layout.rows, layout.columns))
        except OSError:
            self.discard()
            raise
        if create:
            self.rows[:] = np.nan  # what nobody writes must not read as a number

    def write(self, draw: Tensor, logits: Tensor, penultimate: Tensor) -> None:
        """Store the rows of a batch."""
        self.rows[draw.numpy()] = self.layout.pack(logits, penultimate).numpy()

    def close(self) -> None:
        """Bring the rows of this process to the file."""
        if hasattr(self, "rows"):
            self.rows.flush()
            del self.rows

    def commit(self) -> None:
        """Write the checksum and give the view its name; every process that wrote has closed it."""
        self.close()
        with self.file.open("r+b") as stream:
            stream.seek(self.layout.view_bytes - _TRAILER)
            checksum = _crc(self.file, self.layout.view_bytes - _TRAILER, _start(self.target, self.layout))
            stream.write(_MAGIC + checksum.to_bytes(8, "little"))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(self.file, self.target)

    def discard(self) -> None:
        """Throw the temporary file away."""
        with contextlib.suppress(OSError):
            self.file.unlink()


def _reserve(stream: IO[bytes], size: int) -> None:
    """Take the blocks now: a full disk shall be an error here, not a signal in the middle of a memory map."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, size)
        return
    for start in range(0, size, _CHUNK):  # macOS has no such call
        stream.write(bytes(min(_CHUNK, size - start)))


def _crc(file: Path, size: int, value: int) -> int:
    left = size
    with file.open("rb") as stream:
        while left > 0:
            part = stream.read(min(_CHUNK, left))
            value, left = zlib.crc32(part, value), left - len(part)
            if not part:
                break
    return value
