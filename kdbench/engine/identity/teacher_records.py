"""What is remembered of teachers beside their cached outputs: accuracies, and hashes of files that may be gone one day."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench.data.source import DataSource
from kdbench.data.teacher_cache.cache import ACCURACY, WEIGHTS, cache_root
from kdbench.engine.identity.name import weights_identity
from kdbench.models.weights.read import read_recorded
from kdbench.records import Kind, is_amount, is_count, is_text, read_record, set_aside, write_record

log = logging.getLogger(__name__)


def _is_percent(value: Any) -> bool:
    return is_amount(value) and value <= 100


_ACCURACY = {"top1": _is_percent}
_ACCURACY_MORE = {
    "mean_recall": _is_percent,
    "permuted": _is_percent,
    "not_finite": is_count,
    "sha256": is_text,
    "how": is_text,
}


def teacher_identity(cfg: CfgNode, data: DataSource) -> str:
    """What stands for the teacher's weights, see :func:`weights_identity`; of a file that is gone, the hash that a caching run
    recorded for its path.

    Raises:
        ModelError: there is neither file nor record.
    """
    gone = remembered(cfg)
    if gone is None:
        return weights_identity(cfg, "TEACHER", data)
    log.info("%s is gone; using what the cache recorded of it", cfg.TEACHER.WEIGHTS)
    return str(gone["sha256"])


def remembered(cfg: CfgNode) -> dict[str, Any] | None:
    """What a caching run recorded of the teacher's file of weights, where that is gone: ``sha256``, and ``stored``, what it said
    of its training (see :class:`kdbench.models.weights.recorded.Recorded`). None where the file is there, or no record of it."""
    weights = cfg.TEACHER.WEIGHTS
    if not cfg.CACHE.ENABLED or weights in ("", "pretrained") or Path(weights).exists():
        return None
    return _read(_weights_file(cache_root(cfg), weights), {"sha256": is_text}, {}, "the file is missed")


def read_accuracy(root: Path, key: str) -> dict[str, Any] | None:
    """The record of a teacher's accuracy (``top1`` in percent, ``sha256`` of its weights), or None."""
    return _read(root / ACCURACY / f"{key}.json", _ACCURACY, _ACCURACY_MORE, "the teacher is measured again")


def write_accuracy(root: Path, key: str, record: dict[str, Any]) -> None:
    """Remember a teacher's accuracy; a folder that cannot be written costs a warning."""
    _record(root / ACCURACY / f"{key}.json", record)


def write_weights(root: Path, weights: str, sha256: str) -> None:
    """Remember of a file of weights its hash and what it says of its training; a folder that cannot be written costs a warning."""
    if Path(weights).is_file():
        values = {"path": os.path.abspath(weights), "sha256": sha256, "stored": asdict(read_recorded(weights))}
        _record(_weights_file(root, weights), values)


def _weights_file(root: Path, weights: str) -> Path:
    return root / WEIGHTS / f"{hashlib.sha256(os.fsencode(os.path.abspath(weights))).hexdigest()[:16]}.json"


def _read(file: Path, kinds: Mapping[str, Kind], optional: Mapping[str, Kind], then: str) -> dict[str, Any] | None:
    """A record; None where there is none. A damaged one is set aside, in a warning."""
    try:
        return read_record(file, kinds, optional)
    except OSError:
        return None
    except ValueError as error:
        set_aside(file, error, then)
        return None


def _record(file: Path, values: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_record(file, values)
    except OSError as error:
        log.warning("%s cannot be written (%s)", file, error.strerror)
