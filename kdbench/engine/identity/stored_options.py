"""What the file of a network's weights says of its input, taken where the configuration leaves it open."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from kdbench.config.teachers import AND, each_teacher, with_teachers
from kdbench.data.source import DataSource
from kdbench.engine.identity.teacher_records import remembered
from kdbench.engine.parts import image_size
from kdbench.models.names import default_side, find_entry
from kdbench.models.weights.class_names import output_order, stored_class_names
from kdbench.models.weights.load import NORMS
from kdbench.models.weights.read import read_recorded
from kdbench.models.weights.recorded import Recorded

log = logging.getLogger(__name__)
_PUBLISHED = ("", "pretrained")


def with_stored_options(cfg: CfgNode, data: DataSource, roles: Sequence[str] = ("TEACHER", "STUDENT")) -> CfgNode:
    """The configuration with ``NORM`` and ``INPUT_SIZE`` of its networks as the files of their weights have them (``args`` of
    timm's ``train.py``), where they are left at their defaults; so that a run's identity sees them as if they had been written.

    Statistics that have a name are written by it. ``INPUT_SIZE`` stays 0 where that means the same size.

    Args:
        cfg: from :func:`kdbench.load_config`.
        data: its data set.
        roles: the networks that are used.

    Raises:
        ModelError: a file that cannot be read.
        UnknownNameError: no such model.
    """
    if "TEACHER" in roles and cfg.DISTILLER.TEACHERS:
        each = [with_stored_options(one, data, ["TEACHER"]) for one in each_teacher(cfg)]
        return with_stored_options(with_teachers(cfg, each), data, [role for role in roles if role != "TEACHER"])
    changes = {(role, key): value for role in roles for key, value in _found(cfg, role, data).items()}
    if not changes:
        return cfg
    made = cfg.clone()
    made.defrost()
    for (role, key), value in changes.items():
        made[role][key] = value
    made.freeze()
    return made


def _found(cfg: CfgNode, role: str, data: DataSource) -> dict[str, Any]:
    node, name = cfg[role], cfg.DISTILLER[role]
    if not name or node.WEIGHTS in _PUBLISHED or (node.NORM != "auto" and node.INPUT_SIZE):
        return {}
    stored = _stored(cfg, role)
    found: dict[str, Any] = {}
    if node.NORM == "auto" and stored.statistics is not None:
        found["NORM"] = _named(stored)
    if not node.INPUT_SIZE and stored.input_size not in (0, default_side(name, image_size(cfg, data))):
        found["INPUT_SIZE"] = stored.input_size
    if found:
        taken = ", ".join(f"{role}.{key}: {json.dumps(value)}" for key, value in found.items())
        log.info("%s says how it was trained; taking %s (name another to choose it)", node.WEIGHTS, taken)
    return found


def outputs_order(cfg: CfgNode, role: str, data: DataSource) -> str:
    """What stands for a class map beside the weights of ``cfg.DISTILLER.<role>`` that brings its outputs into another order; nearly
    always empty: the order of a kdbench export is a part of its file.

    Raises:
        ModelError: the map names other classes than the data set has, or cannot be read.
    """
    node = cfg[role]
    if not cfg.DISTILLER[role] or node.WEIGHTS in _PUBLISHED:
        return ""
    names = stored_class_names(node.WEIGHTS, {}, _stored(cfg, role))
    if names is None or (node.HEAD == "reset" and set(names) != set(data.classes)):
        return ""  # nothing to reorder, or a classifier that is dropped
    order = output_order(names, data.classes, node.WEIGHTS)
    return "" if order is None else hashlib.sha256(json.dumps(order).encode()).hexdigest()[:16]


def with_marks(cfg: CfgNode, data: DataSource, roles: Sequence[str], hashes: Mapping[str, str]) -> dict[str, str]:
    """The hashes that stand for a run's inputs, with what else tells it from another one: that a network took the name of another
    one, and that its outputs are reordered."""
    marked = dict(hashes)
    if "TEACHER" in roles and cfg.DISTILLER.TEACHERS:
        each = zip(each_teacher(cfg), hashes["teacher_sha256"].split(AND))
        found = [with_marks(one, data, ["TEACHER"], {"teacher_sha256": own})["teacher_sha256"] for one, own in each]
        marked["teacher_sha256"] = AND.join(found)
        roles = [role for role in roles if role != "TEACHER"]
    for role in roles:
        revision = find_entry(cfg.DISTILLER[role], cfg[role].INPUT_SIZE or image_size(cfg, data)).revision
        key = f"{role.lower()}_sha256"
        marked[key] = " ".join(filter(None, (revision, outputs_order(cfg, role, data), hashes[key])))
    return marked


def _stored(cfg: CfgNode, role: str) -> Recorded:
    """What the file of a network's weights says, or what was remembered of a teacher's file that is gone."""
    gone = remembered(cfg) if role == "TEACHER" else None
    return read_recorded(cfg[role].WEIGHTS) if gone is None else Recorded.from_dict(gone.get("stored"))


def _named(stored: Recorded) -> Any:
    assert stored.statistics is not None
    mean, std = (tuple(values) for values in stored.statistics)
    name = next((name for name, values in NORMS.items() if tuple(map(tuple, values)) == (mean, std)), None)
    return name or (mean, std)
