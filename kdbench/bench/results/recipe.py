"""How a run was trained: its configuration, key by key, without what tells runs of one recipe apart."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kdbench.catalogue import image_side, known_model, methods
from kdbench.config.defaults import DOT_TRAINERS, NOT_IDENTITY, defaults
from kdbench.config.load import merge_trees, to_dict
from kdbench.config.teachers import AND, each_tree
from kdbench.config.yaml_text import LARGEST_FILE, check_size
from kdbench.errors import KdbenchError
from kdbench.models.stage_names import plain_choice

Recipe = Mapping[str, Any]
#: besides paths, logging and hardware: what tells runs of one recipe apart, and the cell that a run belongs to
_APART = (*NOT_IDENTITY, "EXPERIMENT", "DATASET.TYPE", "TEACHER.OPTIONS")
#: sections of which no key is part of a recipe; without them the runs of a cell have one text, which is parsed once
_NO_PART = {key for key in _APART if "." not in key}


@dataclass(frozen=True)
class RunRecipe:
    """The recipe of a run, and the weights of its teacher as it names them."""

    recipe: Recipe
    teacher_weights: str

    @property
    def teacher_run(self) -> str:
        """Id of the run that made its teacher's weights; empty for other files."""
        file = Path(self.teacher_weights)
        return file.parent.name if file.name == "student.safetensors" else ""


def recipe(tree: Mapping[str, Any]) -> Recipe:
    """Dotted keys and values of all that a recipe fixes.

    A key that a run's version of kdbench did not have yet stands at its default. Networks are compared by what is behind
    their names, a student's weights by their kind: fresh, ``pretrained`` or from a file.
    """
    kind = str(tree.get("DISTILLER", {}).get("TYPE", "NONE"))
    full = merge_trees(_defaults(kind), tree)
    flat: dict[str, Any] = {}
    _flatten(full, "", flat)
    kept = {k: v for k, v in flat.items() if not any(k == a or k.startswith(f"{a}.") for a in _APART)}
    apart = full["SOLVER"]["TRAINER"] in DOT_TRAINERS
    kept["SOLVER.TRAINER"] = "dot" if apart else "base"
    if not apart:
        del kept["SOLVER.DOT.DELTA"]
    student, side = full["STUDENT"], image_side(full["DATASET"])
    weights = str(student["WEIGHTS"])
    kept["STUDENT.WEIGHTS"] = weights if weights in ("", "pretrained") else "a file"
    kept["DISTILLER.STUDENT"] = _network(
        full["DISTILLER"]["STUDENT"], int(student["INPUT_SIZE"]) or side, tagged=weights == "pretrained"
    )
    teachers = list(each_tree(full))
    names = [_network(one["DISTILLER"]["TEACHER"], int(one["TEACHER"]["INPUT_SIZE"]) or side) for one in teachers]
    kept["DISTILLER.TEACHER"] = AND.join(names)
    nodes = [one["TEACHER"] for one in teachers] if len(teachers) > 1 else []
    kept["DISTILLER.TEACHERS"] = [
        {key: to_dict(value) for key, value in node.items() if key not in ("WEIGHTS", "OPTIONS")} for node in nodes
    ]
    for role in ("TEACHER", "STUDENT"):
        kept[f"{role}.STAGES"] = plain_choice(kept[f"DISTILLER.{role}"], kept[f"{role}.STAGES"])
    return kept


def recipe_of_run(folder: str | Path) -> RunRecipe | None:
    """The recipe of a run folder, from its ``config.yaml``; None where that cannot be read."""
    try:
        return _parse(_without_sections((Path(folder) / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, KdbenchError, RecursionError, LookupError, TypeError, ValueError, AttributeError):
        return None


def differences(run: Recipe, declared: Recipe) -> list[str]:
    """``KEY value (declared value)`` for each key that differs."""
    if run == declared:
        return []
    keys = [key for key in {**declared, **run} if run.get(key) != declared.get(key)]
    return [f"{key} {_show(run.get(key))} (declared {_show(declared.get(key))})" for key in keys]


def disagreement(recipes: list[Recipe]) -> str:
    """``KEY a and b`` of the first keys in which the recipes are not one; empty where they are."""
    first = recipes[0]
    found: dict[str, list[str]] = {}
    for other in recipes[1:]:
        for key in {**first, **other}:
            if first.get(key) != other.get(key):
                found.setdefault(key, [_show(first.get(key))]).append(_show(other.get(key)))
    told = [f"{key} {' and '.join(dict.fromkeys(values))}" for key, values in found.items()]
    return ", ".join(told[:3]) + (f" and {len(told) - 3} more keys" if len(told) > 3 else "")


@functools.lru_cache(maxsize=8192)
def _parse(text: str) -> RunRecipe:
    if len(text) > LARGEST_FILE:
        raise ValueError("too large for a configuration")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    root = loader.get_single_node()
    check_size(root, "config.yaml")
    tree = None if root is None else loader.construct_document(root)
    if not isinstance(tree, dict):
        raise yaml.YAMLError("no mapping")
    return RunRecipe(recipe(tree), str(tree.get("TEACHER", {}).get("WEIGHTS", "")))


def _without_sections(text: str) -> str:
    """The text without the sections that are no part of a recipe."""
    kept, keep = [], True
    for line in text.splitlines(keepends=True):
        if line[:1].isalnum():
            keep = line.partition(":")[0] not in _NO_PART
        if keep:
            kept.append(line)
    return "".join(kept)


@functools.lru_cache(maxsize=256)
def _defaults(kind: str) -> dict[str, Any]:
    distillers = methods()
    tree = defaults()
    for name in filter(distillers.__contains__, (part.strip() for part in kind.split("+"))):
        method = distillers.get(name)
        if method.defaults:
            tree[distillers.canonical(name).upper()] = method.defaults
    return to_dict(tree)


@functools.lru_cache(maxsize=1024)
def _network(name: str, side: int, *, tagged: bool = True) -> str:
    """The timm or torchvision name behind a network's; ``tagged`` = with the tag that says which weights are published."""
    behind = _behind(name, side, tagged=tagged)
    return behind if tagged or not behind.startswith("timm ") else behind.partition(".")[0]


def _behind(name: str, side: int, *, tagged: bool) -> str:
    """``timm <name>.<tag>``, ``torchvision <name>`` or this project's own name; timm and torch are imported only for what
    a prefixed name does not say itself and the catalogue does not hold."""
    project, colon, rest = name.partition(":")
    if colon and (project == "torchvision" or (project == "timm" and ("." in rest or not tagged))):
        return f"{project} {rest}"
    found = known_model(name, side)
    if found is not None:
        return _told(*found, tagged=tagged)
    from kdbench.models.names import find_entry

    try:
        entry = find_entry(name, side)
        if tagged and entry.tag.startswith("timm ") and "." not in entry.tag:
            entry = find_entry(entry.tag.replace(" ", ":", 1))
    except KdbenchError:
        return name.casefold()
    return _told(entry.name, entry.tag, tagged=tagged)


def _told(name: str, tag: str, *, tagged: bool) -> str:
    # a network of another start is another one, where it is not loaded
    return name if not tagged and name.startswith("mdistiller:") else tag or name


def _flatten(tree: Mapping[str, Any], prefix: str, out: dict[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            _flatten(value, f"{prefix}{key}.", out)
        else:
            out[sys.intern(f"{prefix}{key}")] = to_dict(value) if not isinstance(value, Mapping) else {}


def _show(value: Any) -> str:
    return "none" if value is None else str(value) or "none"
