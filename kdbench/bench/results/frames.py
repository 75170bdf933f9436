"""Run folders as DataFrames: a row a run, or a row an epoch."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.bench.grids.grid_record import GRID_FILE
from kdbench.bench.results.run_files import read_lines, read_metrics, timing_of
from kdbench.bench.results.tuning import trial_runs
from kdbench.engine.result import FIELDS, read_record
from kdbench.errors import KdbenchError
from kdbench.paths import user_path

log = logging.getLogger(__name__)
#: columns of a run that are read from ``result.json``; the folder's path comes on top
COLUMNS = tuple(name for name in FIELDS if name not in ("environment", "classes"))
#: columns from ``timing.jsonl`` (means over epochs but the first, which warms up) and the run's environment
DETAIL = ("seconds_per_epoch", "images_per_second", "data_share", "peak_gpu_bytes", "peak_rss_bytes")
#: columns of an epoch, from ``metrics.jsonl`` and from ``timing.jsonl``
CURVE = ("top1", "top5", "test_loss", "val_top1", "val_top5", "lr")
TIMING = ("seconds", "data_seconds", "images_per_second", "together", "peak_gpu_bytes", "peak_rss_bytes")
ENVIRONMENT = (
    "device",
    "gpu",
    "threads",
    "world_size",
    "deterministic",
    "compile",
    "torch",
    "torchvision",
    "timm",
    "kdbench",
    "code",
    "commit",
    "platform",
)


def run_frame(
    folder: str | Path, *, detail: bool = False, environment: bool = False, trials: bool = False
) -> pd.DataFrame:
    """One row per finished run below ``folder``; unreadable files are skipped by name, in a warning. Runs that are only trials of a
    grid that tunes its methods are there with ``trials`` alone.

    Columns: those of ``result.json`` (see :class:`kdbench.RunResult`; ``student_flops`` is None in folders written before it
    was counted) and ``folder``. With ``detail`` also seconds per epoch,
    images per second, the share of time spent waiting for data, peak GPU and main memory in bytes (:data:`DETAIL`), the environment
    (``env_device``, ``env_torch``, ...) and ``config_hash``, the end of the run's name; with ``environment`` that alone. A run
    that went on in another environment names both (``"2.4.0 then 2.14.1"``). ``attrs`` of the frame:
    ``skipped``, the files that were left out, and ``unfinished``, the number of run folders without a result.

    Raises:
        KdbenchError: there is no such folder.
    """
    root = _root(folder)
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    unfinished = 0
    for place, names in _folders(root, trials=trials):
        if "result.json" not in names:
            unfinished += "config.yaml" in names
            continue
        try:
            record = read_record(Path(place) / "result.json")
        except (OSError, ValueError) as error:
            skipped.append(os.path.join(place, "result.json"))
            log.warning("skipping %s: %s", skipped[-1], error)
            continue
        row = {**{key: record.get(key) for key in COLUMNS}, "folder": place}
        if detail or environment:
            facts = record.get("environment") or {}
            row |= {f"env_{key}": facts.get(key) for key in ENVIRONMENT}
        if detail:
            row |= {"config_hash": str(record.get("run_id", "")).rsplit("-", 1)[-1], **timing_of(place)}
        rows.append(row)
    facts_columns = [f"env_{key}" for key in ENVIRONMENT] if detail or environment else []
    extra = ["config_hash", *DETAIL] if detail else []
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "folder", *facts_columns, *extra])
    frame.attrs |= {"skipped": skipped, "unfinished": unfinished}
    return frame


def left_out(skipped: int, unfinished: int) -> list[str]:
    """What a caption says of the files that :func:`run_frame` skipped, and of the runs without a result."""
    lines = []
    if skipped:
        files, are, were = ("files", "are", "were") if skipped > 1 else ("file", "is", "was")
        lines.append(f"Skipped {skipped} result {files} that {are} unreadable or {were} not written by kdbench.")
    if unfinished:
        lines.append(f"{unfinished} run{'s have' if unfinished > 1 else ' has'} not finished.")
    return lines


def load_curves(folder: str | Path, *, trials: bool = False) -> pd.DataFrame:
    """One row per evaluated epoch of every run below ``folder``, finished or not; of runs that are only trials of a grid that tunes
    its methods with ``trials`` alone.

    Columns: ``run_id``, ``folder``, :data:`CURVE` (accuracies in percent; ``val_*`` where a validation part was held out), a
    column ``train_<term>`` for the epoch's mean of each loss term, then :data:`TIMING` of that epoch. What a run did not record
    is NaN. Files that are unreadable, or were changed since their run was done, are skipped by name, in a
    warning, and stand in ``attrs["skipped"]``.

    Raises:
        KdbenchError: there is no such folder.
    """
    root = _root(folder)
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for place, names in _folders(root, trials=trials):
        if "metrics.jsonl" not in names:
            continue
        try:
            timing = {int(line["epoch"]): line for line in read_lines(Path(place) / "timing.jsonl")}
            own = [_curve_row(line, timing) for line in read_metrics(place)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            reason = "it cannot be read, or is not what its run wrote; the run's command writes it anew"
            log.warning("skipping %s: %s", Path(place) / "metrics.jsonl", reason)
            skipped.append(os.path.join(place, "metrics.jsonl"))
            continue
        rows += [{"run_id": Path(place).name, "folder": place, **row} for row in own]
    terms = sorted({key for row in rows for key in row if key.startswith("train_")})
    frame = pd.DataFrame(rows, columns=["run_id", "folder", "epoch", *CURVE, *terms, *TIMING])
    numbers = [*CURVE, *terms, *TIMING]
    frame[numbers] = frame[numbers].astype("float64")
    frame.attrs["skipped"] = skipped
    return frame


def _curve_row(line: dict[str, Any], timing: dict[int, dict[str, Any]]) -> dict[str, Any]:
    epoch = int(line["epoch"])
    row = {"epoch": epoch, **{key: _number(line.get(key)) for key in CURVE}}
    row |= {f"train_{term}": _number(value) for term, value in line.get("train", {}).items()}
    return row | {key: _number(timing.get(epoch, {}).get(key)) for key in TIMING}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _root(folder: str | Path) -> Path:
    root = user_path(folder)
    if not root.is_dir():
        raise KdbenchError(f"no results folder {str(folder)!r}")
    return root


def _folders(root: Path, *, trials: bool) -> list[tuple[str, set[str]]]:
    found = sorted((place, set(files)) for place, _, files in os.walk(root))
    if trials:
        return found
    grids = [place for place, files in found if GRID_FILE in files]
    # a run's own folder has no grid above it here, where it is named itself
    left_out = {os.path.join(grid, run) for grid in grids for run in trial_runs(grid)}
    return [(place, files) for place, files in found if place not in left_out]
