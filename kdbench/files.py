"""Files, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from kdbench.errors import StorageError


def file_size(file: Path) -> int:
    """Size in bytes; 0 for a file that does not exist."""
    return file.stat().st_size if file.is_file() else 0


def sha256_of(file: Path) -> str:
    """Hexadecimal SHA-256 of a file's content.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(1 << 22):
            digest.update(part)
    return digest.hexdigest()


def write_atomically(file: Path, text: str) -> None:
    """Write a text file so that a reader sees either the old or the whole new one; what fails leaves nothing behind.

    Raises:
        OSError: it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def stored(path: Path, *, resumes: bool = True) -> Iterator[None]:
    """Say in one line what is wrong with the disk, where what is inside writes to ``path``.

    Args:
        path: of the file.
        resumes: the same command then goes on from what it had done, and the line says so.

    Raises:
        StorageError: an operation on a file failed.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        then = "; when that is mended, the same command goes on from what is there" if resumes else ""
        raise StorageError(f"{path} cannot be written: {reason}{then}") from error
