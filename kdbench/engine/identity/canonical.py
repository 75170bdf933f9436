"""One spelling for settings that mean the same: a value that is written out and the default that stands for it are one run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from yacs.config import CfgNode

from kdbench.config.load import to_dict
from kdbench.config.teachers import each_teacher, with_teachers
from kdbench.data.build import builder_of
from kdbench.data.loader import standard_crop_pct
from kdbench.data.source import DataSource
from kdbench.domains import as_statistics
from kdbench.errors import KdbenchError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.names import canonical_name, default_side, find_entry
from kdbench.models.stage_names import plain_choice
from kdbench.models.weights.export import read_metadata
from kdbench.models.weights.load import NORMS
from kdbench.random import forked_seed

Tree = dict[str, Any]


def canonical(cfg: CfgNode) -> CfgNode:
    """The configuration with its networks' names as they were registered: ``SMALL_CNN`` and ``small_cnn`` are one run."""
    if cfg.DISTILLER.TEACHERS:
        cfg = with_teachers(cfg, [canonical(one) for one in each_teacher(cfg)])
    names = {role: canonical_name(cfg.DISTILLER[role]) for role in ("TEACHER", "STUDENT")}
    if all(cfg.DISTILLER[role] == name for role, name in names.items()):
        return cfg
    made = cfg.clone()
    made.defrost()
    for role, name in names.items():
        made.DISTILLER[role] = name
    made.freeze()
    return made


def respell(tree: Tree, weights: Mapping[str, str], data: DataSource) -> None:
    """Put the default that stands for a value in the place of that value, wherever both mean the same on ``data``.

    So treated: the seeds of subset and augmentation, image and input sizes, the data set's standard augmentation, the
    evaluation's crop, statistics, the floor of the gate, views of the cache that no epoch uses, weights of parts that are all
    1, the name of a preset, options at their builder's default.

    Args:
        tree: a configuration as dictionaries; changed in place.
        weights: of TEACHER and STUDENT, as the configuration names them.
        data: its data set.
    """
    seed = tree["EXPERIMENT"]["SEED"]
    side = tree["DATASET"]["IMAGE_SIZE"] or data.image_size
    standard = data.standard
    whole = standard_crop_pct(data.test)
    views = tree["CACHE"]["VIEWS"]
    values: dict[str, tuple[Any, Any]] = {  # key: (value that it may have, the default that means the same)
        "DATASET.SUBSET_SEED": (seed, -1),
        "DATASET.AUG_SEED": (seed, -1),
        "DATASET.IMAGE_SIZE": (data.image_size, 0),
        "AUGMENT.CROP": (standard.crop, "auto"),
        "AUGMENT.PAD": (standard.pad, -1),
        "AUGMENT.FLIP": (standard.flip, -1.0),
        "AUGMENT.CROP_PCT": (whole, 0.0),
        "CACHE.VIEWS": (views if views >= tree["SOLVER"]["EPOCHS"] else 0, 0),
        "TEACHER.FLOOR": (default_floor(data.num_classes), -1.0),
    }
    tree["DISTILLER"]["PRESET"] = ""  # a name for values that stand in the method's node
    for key in ("PART_WEIGHTS", "PART_CE_WEIGHTS"):
        parts = tree["DISTILLER"][key]
        values[f"DISTILLER.{key}"] = (parts if all(part == 1 for part in parts) else (), ())
    for role in ("TEACHER", "STUDENT"):
        tree[role]["STAGES"] = _stages(tree, role, side)
        values[f"{role}.INPUT_SIZE"] = (_own_size(tree, role, side), 0)
        values[f"{role}.NORM"] = (tree[role]["NORM"], _norm(tree, role, weights[role], data, side))
        if tree["DISTILLER"][role]:
            _drop_defaults(
                tree[role]["OPTIONS"], find_entry(tree["DISTILLER"][role], tree[role]["INPUT_SIZE"] or side).build
            )
    _drop_defaults(tree["DATASET"]["OPTIONS"], builder_of(tree["DATASET"]["TYPE"])[0])
    for key, (value, default) in values.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node[part]
        if node[last] == value:
            node[last] = to_dict(default)


def _drop_defaults(options: Tree, build: Callable[..., Any]) -> None:
    """Take away options at the value that the builder has for them anyway."""
    known = inspect.signature(build).parameters
    for option, value in list(options.items()):
        if option in known and to_dict(known[option].default) == value:
            del options[option]


def default_floor(classes: int) -> float:
    """Accuracy in [0, 1] that a teacher must reach where ``TEACHER.FLOOR`` names none: a quarter of the way from chance to 1."""
    chance = 1.0 / classes
    return chance + 0.25 * (1.0 - chance)


def _stages(tree: Tree, role: str, side: int) -> Any:
    """``auto`` for a published project's choice of stages that is the same for this network."""
    choice, name = tree[role]["STAGES"], tree["DISTILLER"][role]
    if not isinstance(choice, str) or choice == "auto" or not name:
        return choice
    entry = find_entry(name, tree[role]["INPUT_SIZE"] or side)
    return plain_choice(entry.tag or entry.name, choice)


def _own_size(tree: Tree, role: str, side: int) -> int:
    """The input size that 0 stands for; 0 where it cannot be told, or where an explicit one would choose another network."""
    name = tree["DISTILLER"][role]
    try:
        given = tree[role]["INPUT_SIZE"]
        if not name or (given and find_entry(name, given).name != find_entry(name, side).name):
            return 0
        return default_side(name, side)
    except KdbenchError:
        return 0


def _norm(tree: Tree, role: str, weights: str, data: DataSource, side: int) -> Any:
    """One word for statistics: a list is the word that stands for it, and ``auto`` is what that takes: of an exported student its
    own, of a fresh network those that it was registered or wrapped with, else the data set's."""
    norm = tree[role]["NORM"]
    if norm == "auto":
        return norm
    named = {
        word: [list(part) for part in statistics] for word, statistics in {**NORMS, "dataset": data.statistics}.items()
    }
    if isinstance(norm, str):
        values = named.get(norm)
    else:
        values = [[float(v) for v in part] for part in norm]
    if not weights:
        own = _own_statistics(tree, role, data.num_classes, side)
        if values == (named["dataset"] if own is None else [list(part) for part in own]):
            return "auto"
    exported = as_statistics(read_metadata(weights).get("statistics")) if weights else None
    if exported is not None and values == [list(part) for part in exported]:
        return "auto"
    return next((word for word, statistics in named.items() if statistics == values), norm)


def _own_statistics(tree: Tree, role: str, num_classes: int, side: int) -> Any:
    """Statistics that a user's network brings along; None of any other. What a builder wrapped is built for it, without memory."""
    name = tree["DISTILLER"][role]
    entry = find_entry(name, tree[role]["INPUT_SIZE"] or side) if name else None
    if entry is None or entry.statistics is not None or _is_ours(entry.build):
        return entry and entry.statistics
    try:
        with torch.device("meta"), forked_seed("statistics"):
            made = entry.build(num_classes=num_classes, **tree[role]["OPTIONS"])
    except Exception:  # noqa: BLE001 - why it cannot be built is said where it is built in earnest
        return None
    return made.statistics if isinstance(made, FeatureModel) else None


def _is_ours(build: Any) -> bool:
    while isinstance(build, functools.partial):
        build = build.func
    return str(getattr(build, "__module__", "")).partition(".")[0] == "kdbench"
