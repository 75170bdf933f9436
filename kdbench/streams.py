"""What is printed, on terminals of any encoding: a sign that one cannot show is replaced, and no control character obeyed."""

from __future__ import annotations

import codecs
import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

from kdbench.escape import visible_lines

#: how signs that kdbench prints are written where the encoding has none of them
_ASCII = {"±": "+-", "→": "->", "…": "...", "×": "x", "Δ": "delta", "✓": "yes", "–": "-", "—": "-", "−": "-", "’": "'"}
_HANDLER = "kdbench.plain"


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    escaped = "".join(_ASCII.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in letters)
    return escaped, error.end


codecs.register_error(_HANDLER, _plain)


@contextlib.contextmanager
def any_encoding() -> Iterator[None]:
    """Within, stdout and stderr write ``+-`` for ± and ``\\xfc`` for ü where their encoding has no such sign, and half surrogates
    (of file names that are not UTF-8) as ``\\udcfc``; afterwards they are as they were."""
    before: list[tuple[Any, str]] = []
    for stream in (sys.stdout, sys.stderr):
        errors = getattr(stream, "errors", None)
        if errors is not None and hasattr(stream, "reconfigure"):
            before.append((stream, errors))
            stream.reconfigure(errors=_HANDLER)
    try:
        yield
    finally:
        for stream, errors in before:
            with contextlib.suppress(ValueError):  # closed since
                stream.reconfigure(errors=errors)


class PlainFormatter(logging.Formatter):
    """Messages whose control characters, but for the ends of lines, are shown and not obeyed."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(super().format(record))
