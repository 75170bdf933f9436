"""Every method's loss as a pure function of tensors: ``kdbench.functional.dkd_loss(...)``.

The names are collected from the method files: each public function there whose name ends in ``_loss``, and the helpers that
a file lists in ``__functional__``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import kdbench.distillers as _package


def _collect() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for info in pkgutil.iter_modules(_package.__path__):
        if info.ispkg:
            continue  # the methods' parts
        module = importlib.import_module(f"{_package.__name__}.{info.name}")
        extra = getattr(module, "__functional__", ())
        for name, value in vars(module).items():
            own = inspect.isfunction(value) and value.__module__ == module.__name__
            if (own and name.endswith("_loss") and not name.startswith("_")) or name in extra:
                found[name] = value
    return found


globals().update(_collect())
__all__ = sorted(_collect())


def __getattr__(name: str) -> Any:
    from kdbench.errors import did_you_mean

    raise AttributeError(f"kdbench.functional has no {name!r}{did_you_mean(name, __all__)}")
