"""Modules and files from outside the package that register methods, models or data sets."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from kdbench.errors import KdbenchError


def import_plugins(names: Sequence[str]) -> None:
    """Import modules, or Python files, that register methods, models or data sets.

    Raises:
        KdbenchError: one cannot be imported.
    """
    for name in names:
        try:
            if name.endswith(".py"):
                _import_file(name)
            else:
                sys.path.insert(0, os.getcwd())
                importlib.import_module(name)
        except (ImportError, OSError, SyntaxError) as error:
            raise KdbenchError(f"--import {name}: {error}") from None


def _import_file(path: str) -> None:
    import importlib.util

    name = "kdbench_plugin_" + os.path.splitext(os.path.basename(path))[0]
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
