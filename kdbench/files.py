"""Files, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def file_size(file: Path) -> int:
    """Size in bytes; 0 for a file that does not exist."""
    return file.stat().st_size if file.is_file() else 0


def write_atomically(file: Path, text: str) -> None:
    """Write a text file so that a reader sees either the old or the whole new one."""
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
