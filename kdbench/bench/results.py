"""Run folders as one DataFrame."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.bench.state import GRID_FILE, read_grid_record
from kdbench.errors import KdbenchError, did_you_mean

log = logging.getLogger(__name__)
#: columns of a run that are read from ``result.json``; the folder's path comes on top
COLUMNS = (
    *("run_id", "method", "teacher", "student", "dataset", "seed"),
    *("top1_last", "top5_last", "top1_best", "top5_best", "best_epoch", "epochs", "top1_selected"),
    *(
        "teacher_top1",
        "student_params",
        "student_flops",
        "extra_params",
        "seconds",
        "teacher_sha256",
        "data_fingerprint",
    ),
)
#: columns from ``timing.jsonl`` (means over epochs but the first, which warms up) and the run's environment
DETAIL = ("seconds_per_epoch", "images_per_second", "data_share", "peak_gpu_bytes")
ENVIRONMENT = ("device", "gpu", "threads", "world_size", "torch", "timm", "kdbench", "commit", "platform")
SELECT = {"last": "top1_last", "best": "top1_best", "selected": "top1_selected"}


def check_select(select: str) -> None:
    """Refuse a selection rule that does not exist.

    Raises:
        KdbenchError: it does not, or several are named.
    """
    if "," in select or "+" in select:
        raise KdbenchError(
            f"--select {select!r}: two selection rules are never mixed in one table; render one for each"
        )
    if select not in SELECT:
        raise KdbenchError(f"--select {select!r} is none of {', '.join(SELECT)}{did_you_mean(select, SELECT)}")


def load_results(folder: str | Path, *, detail: bool = False) -> pd.DataFrame:
    """One row per finished run below ``folder``; unreadable files are skipped by name, in a warning.

    Columns: those of ``result.json`` (see :class:`kdbench.RunResult`; ``student_flops`` is None in folders written before it
    was counted) and ``folder``. With ``detail`` also seconds per epoch,
    images per second, the share of time spent waiting for data, peak GPU memory in bytes (:data:`DETAIL`), the environment
    (``env_device``, ``env_torch``, ...) and ``config_hash``, the end of the run's name. ``attrs`` of the frame:
    ``skipped``, the files that were left out, and ``unfinished``, the number of run folders without a result.

    Raises:
        KdbenchError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise KdbenchError(f"no results folder {str(folder)!r}")
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    unfinished = 0
    for place, names in _folders(root):
        if "result.json" not in names:
            unfinished += "config.yaml" in names
            continue
        record = _read(Path(place) / "result.json")
        if record is None:
            skipped.append(os.path.join(place, "result.json"))
            continue
        row = {**{key: record.get(key) for key in COLUMNS}, "folder": place}
        if detail:
            environment = record.get("environment") or {}
            row |= {f"env_{key}": environment.get(key) for key in ENVIRONMENT}
            row |= {"config_hash": str(record.get("run_id", "")).rsplit("-", 1)[-1], **timing_of(place)}
        rows.append(row)
    extra = (*(f"env_{key}" for key in ENVIRONMENT), "config_hash", *DETAIL) if detail else ()
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "folder", *extra])
    frame.attrs |= {"skipped": skipped, "unfinished": unfinished}
    return frame


def timing_of(folder: str | Path) -> dict[str, float]:
    """Means over a run's epochs from ``timing.jsonl``; the first epoch is left out where there are more. Empty without it."""
    try:
        lines = [json.loads(line) for line in (Path(folder) / "timing.jsonl").read_text("utf-8").splitlines() if line]
        used = lines[1:] or lines
        seconds = [float(line["seconds"]) for line in used]
        means = {
            "seconds_per_epoch": sum(seconds) / len(seconds),
            "images_per_second": sum(float(line["images_per_second"]) for line in used) / len(used),
            "data_share": sum(float(line["data_seconds"]) for line in used) / max(sum(seconds), 1e-12),
        }
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return {}
    peaks = [line["peak_gpu_bytes"] for line in lines if "peak_gpu_bytes" in line]
    return means | ({"peak_gpu_bytes": float(max(peaks))} if peaks else {})


def load_grid_results(folder: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The results of a grid's folder with the grid's own labels (``pair``, ``label``), and the grid's record.

    Without a ``grid.json`` rows are labelled ``teacher -> student`` and columns by method; a student that was trained alone
    stands in the row of every teacher.

    Raises:
        KdbenchError: there is no such folder, or its ``grid.json`` is damaged.
    """
    frame = load_results(folder)
    try:
        record = read_grid_record(folder)
        if record is not None:
            cells = pd.DataFrame(record["cells"])
            cells = cells.rename(columns={"method": "label", "run": "run_id"})[["pair", "label", "run_id"]]
    except (ValueError, KeyError):
        raise KdbenchError(
            f"{Path(folder) / GRID_FILE} is damaged: run the grid's command again, which writes it anew"
        ) from None
    if record is not None:
        merged = cells.merge(frame, on="run_id", how="left")
        merged.attrs |= frame.attrs
        return merged, record
    return _derive_labels(frame)


def _derive_labels(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    taught = frame[frame.teacher != ""]
    rows = [frame_with_pair(taught, taught.teacher + " -> " + taught.student)] if len(taught) else []
    for (teacher, student), _ in taught.groupby(["teacher", "student"], sort=False):
        alone = frame[(frame.teacher == "") & (frame.student == student)]
        rows.append(frame_with_pair(alone, pd.Series(f"{teacher} -> {student}", index=alone.index)))
    labelled = pd.concat(rows) if rows else frame_with_pair(frame, frame.student)
    labelled.attrs |= frame.attrs
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


def _folders(root: Path) -> list[tuple[str, set[str]]]:
    return sorted((place, set(files)) for place, _, files in os.walk(root))


def _read(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        log.warning("%s is unreadable and is skipped", file)
        return None
    if not isinstance(record, dict) or "top1_last" not in record or "method" not in record:
        log.warning("%s is no result of kdbench and is skipped", file)
        return None
    if not isinstance(record["top1_last"], (int, float)) or not isinstance(record.get("seed"), int):
        log.warning("%s has figures that are no numbers and is skipped", file)
        return None
    return record
