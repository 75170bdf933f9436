"""kdbench: knowledge distillation methods, compared under equal conditions.

Everything public is an attribute of this package and is imported at first use, so that ``import kdbench`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "load_config": "kdbench.config.load",
    "create_model": "kdbench.models.zoo",
    "list_models": "kdbench.models.zoo",
    "register_model": "kdbench.models.registry",
    "wrap_model": "kdbench.models.feature_model.hooked",
    "FeatureModel": "kdbench.models.feature_model.model",
    "ModelOutput": "kdbench.models.spec",
    "ModelSpec": "kdbench.models.spec",
    "StageSpec": "kdbench.models.spec",
    "create_distiller": "kdbench.distillers.create",
    "list_distillers": "kdbench.distillers.create",
    "register_distiller": "kdbench.distillers.base",
    "Distiller": "kdbench.distillers.base",
    "Batch": "kdbench.distillers.base",
    "DataInfo": "kdbench.distillers.base",
    "register_dataset": "kdbench.data.source",
    "list_datasets": "kdbench.data.build",
    "train": "kdbench.engine.run",
    "train_teacher": "kdbench.engine.teacher.train_teacher",
    "evaluate": "kdbench.engine.run",
    "RunResult": "kdbench.engine.run",
    "run_grid": "kdbench.bench.running.run_grid",
    "load_results": "kdbench.bench.results.frames",
    "load_curves": "kdbench.bench.results.frames",
    "KdbenchError": "kdbench.errors",
}

__all__ = [*_PUBLIC, "functional", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "functional":
        return importlib.import_module("kdbench.functional")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kdbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
