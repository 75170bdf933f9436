"""Paths as a shell means them: ``~`` is the home directory, everything else is relative to the working directory.

``configs/...`` is found below the working directory or, where it is not there, among the files that come with kdbench.
"""

from __future__ import annotations

import os
from pathlib import Path

from kdbench.errors import ConfigError


def expanded(path: str | os.PathLike[str]) -> str:
    """The path as text with ``~`` and ``~user`` replaced; a folder of such a name is written ``./~``.

    Raises:
        ConfigError: no user of that name has a home directory, or the text can be no path.
    """
    text = os.fspath(path)
    if any(ord(letter) < 32 for letter in text):
        raise ConfigError(f"{text!r} is no path: it holds a control character")
    made = os.path.expanduser(text)
    if made.startswith("~"):
        raise ConfigError(
            f"{text!r}: no home directory of {text.partition('/')[0][1:]!r} is known (./{text} is a folder here)"
        )
    return made


def user_path(path: str | os.PathLike[str]) -> Path:
    """:func:`expanded` as a path."""
    return Path(expanded(path))


def beside(file: Path, path: str) -> Path:
    """A path that is written in ``file``: relative to it, unless it is absolute or starts at a home directory."""
    return file.parent / user_path(path)


def weights_file(path: str) -> str:
    """A path of weights, where a finished run's folder stands for the student in it."""
    student = os.path.join(path, "student.safetensors")
    return student if path and os.path.isdir(path) and os.path.isfile(student) else path


def shipped_configs() -> Path:
    """The folder of the configurations and grids that come with kdbench: in the package, or of a source checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_path(path: str | os.PathLike[str], file: Path | None = None) -> Path:
    """A configuration or grid, or a folder of them: the path itself or, for ``configs/...`` that is not there, the one that comes
    with kdbench.

    Args:
        path: as a user wrote it.
        file: in which it is written, whose folder it is relative to; None: a command line.
    """
    found = user_path(path) if file is None else beside(file, os.fspath(path))
    parts = Path(path).parts
    if parts[:1] == ("configs",) and ".." not in parts:
        shipped = shipped_configs().joinpath(*parts[1:])
        try:
            return shipped if not found.exists() and shipped.exists() else found
        except OSError:  # a name too long, a folder that may not be entered: found out where it is read
            return found
    return found


def leads_out(path: str) -> bool:
    """Whether a path that is put below a folder may leave it."""
    parts = Path(path).parts
    return Path(path).is_absolute() or ".." in parts or any(part.startswith("~") for part in parts[:1])
