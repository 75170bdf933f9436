"""kdbench: knowledge distillation methods, compared under equal conditions.

Everything public is an attribute of this package and is imported at first use, so that ``import kdbench`` costs nothing.

Rooms, each of which may import those above it (``tests/core/test_layers.py`` holds it):

- errors, version, escape, files, seal, logs, output, random, paths, domains, streams, records, stopping: The ground: errors that a
  user can mend, text as text in every output and on every terminal, work that goes on where that cannot be written, files written
  whole and checked when they are read, randomness as a function, paths as a shell means them, what values may be, requests to stop.
- processes: The processes of one run, started by ``torchrun``: they agree, watch each other and end together.
- plugins, registry: Code that users bring, and the registries of methods, networks, data sets and trackers.
- catalogue: What there is, without torch: methods, networks and data sets, as ``catalogue.json`` has them; what
  ``kdbench list`` prints.
- config: Configurations: files and overrides in, one checked and frozen tree out.
- models: The zoo: networks of every kind behind one face, and their weights.
- data: Data sets, their replayable augmentation, and what a teacher said of them. Does not know models, nor they it.
- distillers: Methods, a file each.
- functional: Every method's loss as a pure function.
- engine: One run, from a configuration to a folder.
- bench: Many runs: grids, results, comparisons, the papers' tables.
- scaffold: Files to begin with: a comparison, a method.
- cli: The command.
"""

from __future__ import annotations

import importlib
from typing import Any

from kdbench.version import __version__

_PUBLIC = {
    "load_config": "kdbench.config.load",
    "create_model": "kdbench.models.zoo",
    "list_models": "kdbench.models.names",
    "register_model": "kdbench.models.registry",
    "wrap_model": "kdbench.models.wrapped.wrap",
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
    "DataSource": "kdbench.data.source",
    "MemorySplit": "kdbench.data.source",
    "data_from_arrays": "kdbench.data.sets.brought.arrays",
    "data_from_datasets": "kdbench.data.sets.brought.items",
    "list_datasets": "kdbench.data.build",
    "train": "kdbench.engine.run",
    "train_teacher": "kdbench.engine.train_teacher",
    "train_cohort": "kdbench.engine.session.cohort",
    "evaluate": "kdbench.engine.run",
    "Tracker": "kdbench.engine.training.tracking.tracker",
    "register_tracker": "kdbench.engine.training.tracking.tracker",
    "RunResult": "kdbench.engine.run",
    "run_grid": "kdbench.bench.running.run_grid",
    "load_results": "kdbench.bench.results.loaded",
    "load_curves": "kdbench.bench.results.frames",
    "build_table": "kdbench.bench.comparison.table",
    "render_table": "kdbench.bench.comparison.render",
    "scores": "kdbench.bench.comparison.report",
    "ranks": "kdbench.bench.comparison.report",
    "summarise": "kdbench.bench.comparison.statistics",
    "friedman": "kdbench.bench.comparison.statistics",
    "pair_tests": "kdbench.bench.comparison.statistics",
    "differences": "kdbench.bench.pictures.differences",
    "plot_table": "kdbench.bench.pictures.accuracy",
    "plot_differences": "kdbench.bench.pictures.differences",
    "plot_curves": "kdbench.bench.pictures.curves",
    "plot_cost": "kdbench.bench.pictures.cost",
    "plot_ranks": "kdbench.bench.pictures.ranks",
    "build_report": "kdbench.bench.pictures.page",
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
