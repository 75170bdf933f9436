"""Run folders as one DataFrame."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.errors import KdbenchError

log = logging.getLogger(__name__)
#: columns of a run that are read from ``result.json``; the folder's path comes on top
COLUMNS = (
    *("run_id", "method", "teacher", "student", "dataset", "seed"),
    *("top1_last", "top5_last", "top1_best", "top5_best", "best_epoch", "epochs", "top1_selected"),
    *("teacher_top1", "student_params", "extra_params", "seconds", "teacher_sha256", "data_fingerprint"),
)
SELECT = {"last": "top1_last", "best": "top1_best", "selected": "top1_selected"}


def load_results(folder: str | Path) -> pd.DataFrame:
    """One row per finished run below ``folder``; unreadable files are skipped by name, in a warning.

    Columns: those of ``result.json`` (see :class:`kdbench.RunResult`) but the environment, and ``folder``.

    Raises:
        KdbenchError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise KdbenchError(f"no results folder {str(folder)!r}")
    rows: list[dict[str, Any]] = []
    for file in sorted(root.rglob("result.json")):
        record = _read(file)
        if record is not None:
            rows.append({**{key: record.get(key) for key in COLUMNS}, "folder": str(file.parent)})
    return pd.DataFrame(rows, columns=[*COLUMNS, "folder"])


def load_grid_results(folder: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The results of a grid's folder with the grid's own labels (``pair``, ``label``), and the grid's record.

    Without a ``grid.json`` rows are labelled ``teacher -> student`` and columns by method; a student that was trained alone
    stands in the row of every teacher.
    """
    frame = load_results(folder)
    file = Path(folder) / "grid.json"
    if file.is_file():
        record = json.loads(file.read_text(encoding="utf-8"))
        cells = pd.DataFrame(record["cells"])
        cells = cells.rename(columns={"method": "label", "run": "run_id"})[["pair", "label", "run_id"]]
        return cells.merge(frame, on="run_id", how="left"), record
    return _derive_labels(frame)


def _derive_labels(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    taught = frame[frame.teacher != ""]
    rows = [frame_with_pair(taught, taught.teacher + " -> " + taught.student)] if len(taught) else []
    for (teacher, student), _ in taught.groupby(["teacher", "student"], sort=False):
        alone = frame[(frame.teacher == "") & (frame.student == student)]
        rows.append(frame_with_pair(alone, pd.Series(f"{teacher} -> {student}", index=alone.index)))
    labelled = pd.concat(rows) if rows else frame_with_pair(frame, frame.student)
    methods = list(dict.fromkeys(labelled.label))
    return labelled, {
        "name": "",
        "pairs": list(dict.fromkeys(labelled.pair)),
        "methods": methods,
        "baseline": "KD",
        "cells": [],
    }


def frame_with_pair(frame: pd.DataFrame, pair: pd.Series) -> pd.DataFrame:
    """``frame`` with the labels that a table's rows and columns are made of."""
    return frame.assign(pair=pair, label=frame.method)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        log.warning("%s is unreadable and is skipped", file)
        return None
    if not isinstance(record, dict) or "top1_last" not in record or "method" not in record:
        log.warning("%s is no result of kdbench and is skipped", file)
        return None
    return record
