"""Errors that a user can cause, and the "did you mean" that goes with them.

The command line prints such an error as one line and exits with code 2; everything else is a bug, whose traceback it writes to a
file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KdbenchError(Exception):
    """Base of all errors that a user can cause and mend."""


class ConfigError(KdbenchError):
    """A configuration that cannot be used; the message names file, key, value and what was expected."""


class UnknownNameError(KdbenchError):
    """A method, model or data set that is not registered."""


class ModelError(KdbenchError):
    """A model that cannot be built, or weights that do not fit it."""


class DataError(KdbenchError):
    """A data set that is missing, damaged or of an unexpected shape."""


class IncompatibleError(KdbenchError):
    """A method that is undefined for this teacher, student or batch."""


class TeacherGateError(KdbenchError):
    """A teacher too weak to learn from."""


class LossError(KdbenchError):
    """What a method returns in the place of loss terms."""


class NonFiniteLossError(KdbenchError):
    """A loss term that became NaN or infinite."""


class StorageError(KdbenchError):
    """A file that could not be written or read: a full disk, a quota, a folder that is gone."""


class RunStoppedError(KdbenchError):
    """A run that was asked to stop by a signal; it goes on from where it was saved."""


class RunBusyError(KdbenchError):
    """A run that another process is at; ``args[1]`` is its folder."""

    def __str__(self) -> str:
        return str(self.args[0])


def nearest(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """The valid names closest to ``name``, best first, whatever the case of the letters."""
    by_lower: dict[str, str] = {}
    for choice in choices:
        by_lower.setdefault(choice.lower(), choice)
    return [by_lower[m] for m in difflib.get_close_matches(name.lower(), list(by_lower), n=n, cutoff=0.5)]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or the empty string where nothing is near."""
    found = nearest(name, choices, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def shown(value: object, limit: int = 200) -> str:
    """A value for a message: its repr, cut after ``limit`` letters; of a number of thousands of digits, that it is one."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} letters)"
