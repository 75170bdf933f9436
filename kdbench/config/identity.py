"""What of a configuration decides over a run's result; without torch, so that grids can name their runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from kdbench.catalogue import methods
from kdbench.config.defaults import DOT_TRAINERS, NOT_IDENTITY
from kdbench.config.load import to_dict

#: keys that came later, by section, with what stands for the way that it was before
_AS_EVER: dict[str, dict[str, Any]] = {
    "DATASET": {"AUG_REPEATS": 0},
    "SOLVER": {
        "NON_FINITE": "stop",
        "PATIENCE": 0,
        "KEEP": "last",
        "ACCUMULATE": 1,
        "TASK_LOSS": "ce",
        "BCE_TARGET_THRESH": -1.0,
    },
}


def decisive(cfg: CfgNode) -> dict[str, Any]:
    """The configuration without paths, logging and hardware, and without hyperparameters that a method was given later and that
    stand at their default."""
    tree = to_dict(cfg)
    for key in NOT_IDENTITY:
        *path, last = key.split(".")
        node: Any = tree
        for part in path:
            node = node.get(part, {})
        node.pop(last, None)
    _spell_precision(tree)
    _spell_teachers(tree["DISTILLER"])
    _spell_trainer(tree["SOLVER"])
    for section, keys in _AS_EVER.items():
        for key, value in keys.items():
            if tree[section][key] == value:
                del tree[section][key]
    known = methods()
    for method in (known.get(part.strip()) for part in cfg.DISTILLER.TYPE.split("+")):
        node = tree.get(method.name.upper(), {})
        for key in method.added:
            if node.get(key) == to_dict(method.defaults[key]):
                node.pop(key)
    return tree


def _spell_teachers(node: dict[str, Any]) -> None:
    """Several teachers where there are several, without the paths of their weights."""
    entries = node.pop("TEACHERS")
    if entries:
        node["TEACHERS"] = [{key: value for key, value in entry.items() if key != "WEIGHTS"} for entry in entries]


def _spell_trainer(solver: dict[str, Any]) -> None:
    """Drop the trainer of a SOLVER node and its key where they say nothing; both names of DOT are one."""
    if solver["TRAINER"] in DOT_TRAINERS:
        solver["TRAINER"] = "dot"
    else:
        del solver["TRAINER"], solver["DOT"]


def _spell_precision(tree: dict[str, Any]) -> None:
    """Number formats as runs have always been named by: ``SOLVER.AMP``, and what that could not say only where it is said."""
    name = tree["SOLVER"].pop("PRECISION")
    tree["SOLVER"]["AMP"] = name if name in ("bf16", "fp16") else "none"
    if name == "tf32":
        tree["SOLVER"]["PRECISION"] = name
    if tree["TEACHER"]["PRECISION"] in ("auto", name):
        del tree["TEACHER"]["PRECISION"]


def beyond(cfg: CfgNode, code: Mapping[str, str], world: int) -> list[Any]:
    """What decides over a result beside the configuration's values; each stands there only where it says something, so that a
    plain run keeps its name."""
    parts: list[Any] = []
    if code:
        parts.append({"code": dict(code)})
    if world > 1:
        parts.append({"processes": world})
    if cfg.SOLVER.EMA > 0:
        parts.append({"average": "warmed up"})  # one of constant decay is another run
    if "DKD" in cfg and cfg.DKD.get("STANDARDIZE"):
        parts.append({"logits": "standardised"})  # the key did nothing once
    return parts
