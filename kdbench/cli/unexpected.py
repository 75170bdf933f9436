"""The last resort: an error that is nobody's mistake is told in one line, and its traceback kept in a file."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence

from kdbench.escape import visible, visible_lines
from kdbench.version import __version__

#: ``EX_SOFTWARE`` of sysexits.h: an error within the program
EXIT_CODE = 70
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "matplotlib", "safetensors", "PyYAML", "yacs")
_LONGEST = 300  # letters of the error's own message in the line


def tell(error: BaseException, words: Sequence[str], *, traceback_shown: bool = False) -> int:
    """Say on stderr that an error came up which no message was written for; returns the exit code.

    Args:
        error: it.
        words: the command line, for the file.
        traceback_shown: print the traceback instead of writing it to a file.
    """
    if traceback_shown:
        print(visible_lines("".join(traceback.format_exception(error)).rstrip()), file=sys.stderr)
        return EXIT_CODE
    message = " ".join(visible(part) for part in str(error).split())
    message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."
    about = f"{type(error).__name__}: {message}" if message else type(error).__name__
    print(f"kdbench: unexpected error: {about} ({_kept(report(error, words))})", file=sys.stderr)
    return EXIT_CODE


def report(error: BaseException, words: Sequence[str]) -> str:
    """What one needs to know of an error: the command, versions, and the traceback with all causes."""
    lines = [
        f"kdbench {__version__}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        f"command: kdbench {shlex.join(words)}",
        f"folder:  {_folder()}",
        f"Python {platform.python_version()} on {platform.platform()}",
        ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "",
        "".join(traceback.format_exception(error)),
    ]
    return "\n".join(lines)


def _kept(text: str) -> str:
    """Where the text was written to, or why not."""
    try:
        # a name of its own that nobody can have prepared, readable by its owner alone
        handle, name = tempfile.mkstemp(prefix="kdbench-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        return f"details could not be written: {error.strerror}; --traceback shows them"
    return f"details: {visible(name)}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "removed"
