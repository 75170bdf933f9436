"""Paths as a shell means them: ``~`` is the home directory, everything else is relative to the working directory."""

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


def leads_out(path: str) -> bool:
    """Whether a path that is put below a folder may leave it."""
    parts = Path(path).parts
    return Path(path).is_absolute() or ".." in parts or any(part.startswith("~") for part in parts[:1])
