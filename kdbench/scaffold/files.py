"""New files, all of them or none, never over others; the templates."""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import Mapping
from pathlib import Path

from kdbench.errors import ConfigError
from kdbench.files import stored


def template(name: str, values: Mapping[str, str]) -> str:
    """A file of ``templates/`` with ``@KEY@`` replaced.

    Args:
        name: of the file.
        values: by key.
    """
    text = importlib.resources.files("kdbench.scaffold").joinpath("templates", name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def write_new(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Write files that are not there yet, making folders as needed.

    Args:
        folder: in which they are.
        files: contents by name.

    Raises:
        ConfigError: one of them is there, or the folder is a file; nothing was written.
        StorageError: they cannot be written; nothing was left.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder")
    paths = [folder / name for name in files]
    there = next((path for path in paths if path.exists()), None)
    if there is not None:
        raise ConfigError(f"{there} is there already, and is not written over; name another folder, or move it away")
    written: list[Path] = []
    try:
        for path, text in zip(paths, files.values()):
            with stored(path, resumes=False):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("x", encoding="utf-8") as stream:
                    written.append(path)
                    stream.write(text)
    except BaseException:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    return written
