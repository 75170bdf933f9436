"""What a run is: names as they are registered, the weights that it starts from, and the hash of all that it depends on."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from yacs.config import CfgNode

from kdbench.config import to_dict
from kdbench.config_defaults import NOT_IDENTITY
from kdbench.data.source import DataSource
from kdbench.engine.build import image_size
from kdbench.models.checkpoints import file_sha256
from kdbench.models.published import published_release
from kdbench.models.zoo import canonical_name


def canonical(cfg: CfgNode) -> CfgNode:
    """The configuration with its networks' names as they were registered: ``SMALL_CNN`` and ``small_cnn`` are one run."""
    names = {role: canonical_name(cfg.DISTILLER[role]) for role in ("TEACHER", "STUDENT")}
    if all(cfg.DISTILLER[role] == name for role, name in names.items()):
        return cfg
    made = cfg.clone()
    made.defrost()
    for role, name in names.items():
        made.DISTILLER[role] = name
    made.freeze()
    return made


def weights_identity(cfg: CfgNode, role: str, data: DataSource) -> str:
    """What stands for the weights of ``cfg.DISTILLER.<role>``: empty for fresh ones, the release of published ones (see
    :func:`published_release`), the SHA-256 of a file.

    Raises:
        ModelError: the file cannot be read.
        UnknownNameError: no such model.
    """
    weights = cfg[role].WEIGHTS
    if weights == "pretrained":
        return published_release(cfg.DISTILLER[role], cfg[role].INPUT_SIZE or image_size(cfg, data))
    return file_sha256(weights) if weights else ""


def decisive(cfg: CfgNode) -> dict[str, Any]:
    """The configuration without paths, logging and hardware."""
    tree = to_dict(cfg)
    for key in NOT_IDENTITY:
        *path, last = key.split(".")
        node: Any = tree
        for part in path:
            node = node.get(part, {})
        node.pop(last, None)
    return tree


def identity(cfg: CfgNode, *, teacher_sha256: str, student_sha256: str, data: str) -> str:
    """Hash of all that determines a run's result: the configuration without paths, logging and hardware, the weights that
    it starts from, and the data."""
    tree = decisive(cfg)
    # of 'folder:<path>' the kind: where the images lie is no part of what they are
    tree["DATASET"]["TYPE"] = tree["DATASET"]["TYPE"].partition(":")[0].lower()
    # the order of the classes is in the labels, and so in the fingerprint of the data
    tree["DATASET"]["OPTIONS"].pop("class_order", None)
    text = json.dumps([tree, teacher_sha256, student_sha256, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def run_name(cfg: CfgNode, digest: str) -> str:
    """A readable name that ends in the identity."""
    node = cfg.DISTILLER
    parts = [node.TYPE, node.TEACHER, node.STUDENT] if node.TEACHER else [node.TYPE, node.STUDENT]
    words = "-".join(re.sub(r"[^A-Za-z0-9_+.]+", "_", part) for part in parts if part)
    return f"{words}-s{cfg.EXPERIMENT.SEED}-{digest}"
