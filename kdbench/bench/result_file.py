"""One ``result.json``: read, and checked for what tables and statistics make of it."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
_TEXTS = ("run_id", "method", "teacher", "student", "dataset", "teacher_sha256", "data_fingerprint")
_PERCENT = ("top1_last", "top5_last", "top1_best", "top5_best", "top1_selected", "top5_selected", "teacher_top1")
_COUNTS = ("seed", "best_epoch", "epochs", "student_params", "student_flops", "extra_params")
_AMOUNTS = ("seconds",)
_NEEDED = ("run_id", "method", "teacher", "student", "dataset", "seed", "top1_last")


def read_result(file: Path) -> dict[str, Any] | None:
    """The record of a finished run; None, with a warning that names the file, where it is damaged or somebody else's."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        log.warning("%s is unreadable and is skipped", file)
        return None
    if not isinstance(record, dict) or any(key not in record for key in _NEEDED):
        log.warning("%s is no result of kdbench and is skipped", file)
        return None
    for key in (*_TEXTS, *_PERCENT, *_COUNTS, *_AMOUNTS, "environment"):
        value = record.get(key)
        if (value is None and key not in _NEEDED) or _is_sound(key, value):
            continue
        log.warning("%s has %s %.40r and is skipped", file, key, value)
        return None
    return record


def _is_sound(key: str, value: Any) -> bool:
    if key == "environment":
        return isinstance(value, dict)
    if key in _TEXTS:
        return isinstance(value, str) and (bool(value) or key not in ("run_id", "method", "student", "dataset"))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    if key in _COUNTS:
        # as a 64-bit number, which is what a column of a frame holds
        return isinstance(value, int) and 0 <= value < 2**63
    return 0 <= value <= (100 if key in _PERCENT else math.inf)
