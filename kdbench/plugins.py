"""Modules and files from outside the package that register methods, models or data sets."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from kdbench.errors import KdbenchError

#: entry-point groups through which an installed package registers what it brings
METHODS, MODELS, DATASETS = "kdbench.distillers", "kdbench.models", "kdbench.datasets"
TRACKERS = "kdbench.trackers"
#: names that a group had before, which are read too
_FORMER = {DATASETS: ("kdbench.data",)}
_FILES = "kdbench_plugin_"
#: SHA-256 of the source that a module was loaded from, by its name: a file may change while the program runs
_LOADED: dict[str, str] = {}


def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
    """The entry points of a group, under its present and its former names."""
    return list(_entry_points(group, tuple(sys.path)))


@functools.lru_cache(maxsize=16)
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[importlib.metadata.EntryPoint, ...]:
    """The same, looked up once for each search path: all installed packages are read for it."""
    names = (group, *_FORMER.get(group, ()))
    return tuple(entry for name in names for entry in importlib.metadata.entry_points(group=name))


#: what was imported, in its order: files by their whole paths
_IMPORTED: dict[str, None] = {}


def import_plugins(names: Sequence[str]) -> None:
    """Import modules, or Python files, that register methods, models or data sets. A file that has changed since it was imported
    is run anew.

    Raises:
        KdbenchError: one cannot be imported.
    """
    for name in names:
        _IMPORTED[os.path.abspath(os.path.expanduser(name)) if name.endswith(".py") else name] = None
        try:
            if name.endswith(".py"):
                _import_file(name)
            else:
                if os.getcwd() not in sys.path:
                    sys.path.insert(0, os.getcwd())
                importlib.import_module(name)
        except (KdbenchError, KeyboardInterrupt):
            raise
        except FileNotFoundError as error:
            raise KdbenchError(f"--import {name}: no file {error.filename!r}") from None
        except BaseException as error:  # SystemExit, or an exception of the file's own
            raise KdbenchError(f"--import {name}: {type(error).__name__}: {error}{_line_in(error, name)}") from error


def anything_brought() -> bool:
    """Whether the user imported something in this process, or an installed package registers something."""
    return bool(_IMPORTED) or any(entry_points(group) for group in (METHODS, MODELS, DATASETS))


def imported() -> tuple[str, ...]:
    """What was imported in this process, in its order, for other processes: modules by name, files by their whole paths."""
    return tuple(_IMPORTED)


def source_digest(module: ModuleType) -> str:
    """First 16 digits of the SHA-256 of the source that a module was loaded from; empty for one without a file."""
    known = _LOADED.get(module.__name__)
    if known is None:
        file = getattr(module, "__file__", None)
        if file is None or not os.path.isfile(file):
            return ""
        known = _LOADED[module.__name__] = source_digest_of(file)
    return known


def source_digest_of(file: str) -> str:
    """The same of a file, as it is now; empty where there is none."""
    try:
        with open(file, "rb") as stream:
            return _digest(stream.read())
    except OSError:
        return ""


def module_label(module: ModuleType | str) -> str:
    """What a module is called when it is spoken of: an imported file by its name."""
    if isinstance(module, str):
        return module
    name = module.__name__
    return os.path.basename(module.__file__ or name) if name.startswith(_FILES) else name


def _import_file(path: str) -> None:
    path = os.path.abspath(os.path.expanduser(path))
    with open(path, "rb") as stream:
        text = stream.read()
    name = _module_name(path)
    if name in sys.modules and _LOADED.get(name) == _digest(text):
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    code = compile(text, path, "exec")
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        raise
    _LOADED[name] = _digest(text)


def _module_name(path: str) -> str:
    """The file's name, numbered where another file of that name is there already."""
    stem = _FILES + os.path.splitext(os.path.basename(path))[0]
    name, number = stem, 1
    while name in sys.modules and getattr(sys.modules[name], "__file__", path) != path:
        number += 1
        name = f"{stem}_{number}"
    return name


def _line_in(error: BaseException, name: str) -> str:
    """`` (line N)`` of the user's file, where the error came from it."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if os.path.basename(frame.filename) == os.path.basename(name)]
    return f" (line {lines[-1]})" if lines else ""


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]
