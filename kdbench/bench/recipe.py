"""Whether a run was trained as a grid declares: its configuration against the grid cell's, key by key."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kdbench.bench.paper import Key, paper_dataset, paper_method, paper_network
from kdbench.bench.plan import load_grid
from kdbench.config import to_dict
from kdbench.config_defaults import NOT_IDENTITY

Recipe = Mapping[str, Any]
#: besides paths, logging and hardware: what tells runs of one recipe apart, and the names of networks, which are compared apart
_APART = (*NOT_IDENTITY, "EXPERIMENT", "DISTILLER.TEACHER", "DISTILLER.STUDENT", "DATASET.TYPE", "TEACHER.OPTIONS")
_VOLATILE = re.compile(r"^\s+(SEED|WEIGHTS|TAG|NAME|PREFIX|ROOT|NUM_WORKERS|DEVICE|THREADS):.*\n", re.MULTILINE)
CellName = tuple[str, str, str, str]  # dataset, teacher, student, method, as the tables write them


def recipe(tree: Mapping[str, Any]) -> Recipe:
    """Dotted keys and values of all that a recipe fixes."""
    flat: dict[str, Any] = {}
    _flatten(tree, "", flat)
    return {k: v for k, v in flat.items() if not any(k == a or k.startswith(f"{a}.") for a in _APART)}


def recipe_of_run(folder: str | Path) -> Recipe | None:
    """The recipe of a run folder, from its ``config.yaml``; None where that cannot be read."""
    try:
        text = (Path(folder) / "config.yaml").read_text(encoding="utf-8")
        return _parse(_VOLATILE.sub("", text))  # runs that differ by seed and paths only are parsed once
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def differences(run: Recipe, declared: Recipe) -> list[str]:
    """``KEY value (declared value)`` for each key that differs."""
    keys = [key for key in {**declared, **run} if run.get(key) != declared.get(key)]
    return [f"{key} {_show(run.get(key))} (declared {_show(declared.get(key))})" for key in keys]


class Declared:
    """The recipes that a grid file declares, by cell."""

    def __init__(self, grid: str | Path) -> None:
        loaded = load_grid(grid, seeds=1, weights=False)
        self.recipes: dict[CellName, Recipe] = {}
        for cell in loaded.cells:
            teacher = loaded.teachers.get(cell.teacher)
            name = teacher.network if teacher is not None else ""
            key = (
                paper_dataset(cell.cfg.DATASET.TYPE),
                paper_network(name) if name else "",
                paper_network(cell.student),
            )
            cfg = cell.with_teacher(teacher, "")
            self.recipes[(*key, paper_method(cell.method))] = recipe(to_dict(cfg))

    def find(self, key: Key) -> Recipe | None:
        """The recipe of a table's cell; a student alone belongs to every teacher."""
        teacher = "" if key.method == "Scratch" else key.teacher
        return self.recipes.get((key.dataset, teacher, key.student, key.method))


def declared_recipes(table: int, grid: str | Path = "") -> Declared | None:
    """Of ``grid``, or of this project's ``configs/grids/table<n>.yaml`` where that is at hand (a source checkout).

    Raises:
        KdbenchError: the named grid cannot be read.
    """
    if grid:
        return Declared(grid)
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        file = root / "configs" / "grids" / f"table{table}.yaml"
        if file.is_file():
            return Declared(file)
    return None


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> Recipe:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    tree = yaml.load(text, loader)
    if not isinstance(tree, dict):
        raise yaml.YAMLError("no mapping")
    return recipe(tree)


def _flatten(tree: Mapping[str, Any], prefix: str, out: dict[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            _flatten(value, f"{prefix}{key}.", out)
        else:
            out[f"{prefix}{key}"] = to_dict(value) if not isinstance(value, Mapping) else {}


def _show(value: Any) -> str:
    return "none" if value is None else str(value)
