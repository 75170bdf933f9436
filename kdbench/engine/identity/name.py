"""What a run is: the weights that it starts from, and the hash of all that it depends on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench.config.identity import beyond, decisive
from kdbench.config.teachers import each_teacher
from kdbench.data.source import DataSource
from kdbench.engine.identity.canonical import respell
from kdbench.engine.parts import image_size
from kdbench.engine.result import recorded_fault
from kdbench.errors import ModelError
from kdbench.models.names import find_entry
from kdbench.models.weights.published import published_release
from kdbench.models.weights.read import file_sha256
from kdbench.paths import user_path


def weights_identity(cfg: CfgNode, role: str, data: DataSource) -> str:
    """What stands for the weights of ``cfg.DISTILLER.<role>``: empty for fresh ones, the release of published ones (see
    :func:`published_release`), the SHA-256 of a file, or of the weights of an object.

    Raises:
        ModelError: the file cannot be read, or was changed since a run has exported it.
        UnknownNameError: no such model.
    """
    weights = cfg[role].WEIGHTS
    if weights == "pretrained":
        return published_release(cfg.DISTILLER[role], cfg[role].INPUT_SIZE or image_size(cfg, data))
    if not weights and cfg.DISTILLER[role].startswith("given:"):
        return find_entry(cfg.DISTILLER[role]).own_weights
    check_export(weights)
    return file_sha256(weights) if weights else ""


def check_export(weights: str) -> None:
    """Refuse a student that a run has exported and that was changed since, by the result beside it.

    Raises:
        ModelError: it was changed.
    """
    fault = recorded_fault(Path(user_path(weights))) if weights not in ("", "pretrained") else ""
    if fault:
        raise ModelError(f"{fault} (by result.json beside it); the command of its run exports it again")


def identity(
    cfg: CfgNode,
    data: DataSource,
    weights: Mapping[str, str],
    *,
    code: Mapping[str, str] | None = None,
    world: int = 1,
) -> str:
    """Hash of all that determines a run's result.

    Args:
        cfg: configuration; paths, logging and hardware do not count, nor whether a value was written out or is the default's.
        data: data set; its fingerprint counts.
        weights: ``teacher_sha256`` and ``student_sha256`` of the weights that the run starts from.
        code: digests of what the user brought, see :func:`kdbench.engine.identity.code.code_of`.
        world: number of processes. Batch norm of several sees parts of a batch, so that another number is another run.
    """
    tree = _respelled(cfg, data)
    if cfg.DISTILLER.TEACHERS:
        each = [(one, _respelled(one, data)["TEACHER"]) for one in each_teacher(cfg)]
        tree["DISTILLER"]["TEACHERS"] = [{"MODEL": one.DISTILLER.TEACHER, **node} for one, node in each]
        del tree["TEACHER"]  # it is in theirs
    # of 'folder:<path>' the kind: where the images lie is no part of what they are
    tree["DATASET"]["TYPE"] = tree["DATASET"]["TYPE"].partition(":")[0].lower()
    # the order of the classes is in the labels, and so in the fingerprint of the data
    tree["DATASET"]["OPTIONS"].pop("class_order", None)
    parts: list[Any] = [tree, weights["teacher_sha256"], weights["student_sha256"], data.fingerprint()]
    parts += beyond(cfg, code or {}, world)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def _respelled(cfg: CfgNode, data: DataSource) -> dict[str, Any]:
    tree = decisive(cfg)
    respell(tree, {role: cfg[role].WEIGHTS for role in ("TEACHER", "STUDENT")}, data)
    return tree


def run_name(cfg: CfgNode, digest: str) -> str:
    """A readable name that ends in the identity."""
    node = cfg.DISTILLER
    teacher = "+".join(one.DISTILLER.TEACHER for one in each_teacher(cfg))
    parts = [node.TYPE, teacher, node.STUDENT] if teacher else [node.TYPE, node.STUDENT]
    words = "-".join(re.sub(r"[^A-Za-z0-9_+.]+", "_", part) for part in parts if part)
    return f"{words}-s{cfg.EXPERIMENT.SEED}-{digest}"
