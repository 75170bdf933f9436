"""Files that say of themselves whether they are whole: a digest over their content, in the file.

A JSON document holds its seal under :data:`KEY`. A binary file ends in one, as a line of fixed length. Documents that were written
before there were seals have none; they are read, and sealed when they are next written.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

#: name of the seal in a JSON document
KEY = "seal"
_CHUNK = 1 << 22
_WORD = b"\nkdbench-seal-1 "
#: bytes of a binary file's seal: the word, the digest, a newline
_LENGTH = len(_WORD) + 64 + 1


class BrokenSealError(ValueError):
    """A file whose content is not what was sealed."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON document with its seal."""
    bare = {key: value for key, value in content.items() if key != KEY}
    return {**bare, KEY: _digest(bare)}


def unsealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a JSON document without its seal.

    Raises:
        BrokenSealError: it was changed after it was sealed.
    """
    bare = {key: value for key, value in document.items() if key != KEY}
    if KEY in document and document[KEY] != _digest(bare):
        raise BrokenSealError("its content is not what was written")
    return bare


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def seal_file(stream: BinaryIO) -> None:
    """Append a seal to a file that is open for reading and writing."""
    stream.seek(0)
    digest = _file_digest(stream, None)
    stream.seek(0, io.SEEK_END)
    stream.write(_WORD + digest.encode() + b"\n")


def open_sealed(file: Path) -> BinaryIO:
    """A file's content without its seal, to be read; one without a seal as it is.

    Raises:
        BrokenSealError: it was changed after it was sealed.
        OSError: it cannot be read.
    """
    stream = file.open("rb")
    try:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - _LENGTH))
        tail = stream.read()
        if len(tail) != _LENGTH or not tail.startswith(_WORD):
            stream.seek(0)
            return stream
        stream.seek(0)
        if _file_digest(stream, size - _LENGTH).encode() != tail[len(_WORD) : -1]:
            raise BrokenSealError("its content is not what was written")
        return io.BufferedReader(_Part(stream, size - _LENGTH))
    except BaseException:
        stream.close()
        raise


def _file_digest(stream: BinaryIO, size: int | None) -> str:
    digest, left = hashlib.sha256(), size
    while part := stream.read(_CHUNK if left is None else min(_CHUNK, left)):
        digest.update(part)
        left = None if left is None else left - len(part)
    return digest.hexdigest()


class _Part(io.RawIOBase):
    """The first ``size`` bytes of a file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size, self._at = stream, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._stream.seek(self._at)
        count = self._stream.readinto(view[: max(0, min(len(view), self._size - self._at))])  # type: ignore[attr-defined]
        self._at += count
        return int(count)

    def close(self) -> None:
        self._stream.close()
        super().close()
