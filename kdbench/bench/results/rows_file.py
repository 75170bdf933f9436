"""The rows behind a table as one CSV file: a row a run, from which tables and pictures are made again without its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.bench.grids.grid import is_tuned_label
from kdbench.bench.results.environments import FACTS
from kdbench.bench.results.run_files import timing_of
from kdbench.errors import KdbenchError, did_you_mean
from kdbench.escape import csv, from_csv

_TEXTS = ("pair", "label", "run_id", "method", "teacher", "student", "dataset", "stopped", "teacher_sha256")
_WHOLE = ("seed", "epochs", "best_epoch", "kept_epoch", "student_params", "extra_params", "student_flops")
_PERCENT = ("top1_last", "top1_best", "top1_selected", "teacher_top1")
_OTHER = ("seconds", "seconds_per_epoch")
_ENVIRONMENT = tuple(f"env_{fact}" for fact in FACTS)
#: how the values of a tuned cell were chosen
_TUNED = ("trials", "trial_seeds", "sampler", "chosen_on", "values")
COLUMNS = (*_TEXTS, *_WHOLE, *_PERCENT, *_OTHER, *_ENVIRONMENT, *_TUNED, "error")
_NEEDED = ("pair", "label", "seed", "run_id", "method", "teacher", "student", "dataset", "top1_last")


def is_rows_file(place: str | Path) -> bool:
    """Whether results are asked of a CSV file, not of a folder."""
    return str(place).lower().endswith(".csv") and not Path(place).is_dir()


def rows_as_csv(frame: pd.DataFrame, record: dict[str, Any]) -> str:
    """The text of the file.

    Args:
        frame, record: of :func:`kdbench.bench.results.labels.load_grid_results`.
    """
    frame = frame.copy()
    done = frame.folder.notna()
    times = [timing_of(place).get("seconds_per_epoch") if there else None for place, there in zip(frame.folder, done)]
    frame["seconds_per_epoch"] = pd.Series(times, index=frame.index, dtype="float64").round(4)
    tuned = [record.get("tuned", {}).get((pair, label), {}) for pair, label in zip(frame.pair, frame.label)]
    for name in _TUNED:
        frame[name] = [one.get(name) for one in tuned]
    failed = {(c["pair"], c["method"]): c["error"] for c in record["cells"] if c.get("error") and not c.get("run")}
    frame["error"] = [
        None if there else failed.get(place, "missing") for place, there in zip(zip(frame.pair, frame.label), done)
    ]
    frame = frame[frame.error.ne("missing")].reindex(columns=COLUMNS)
    frame = frame.drop_duplicates(["pair", "label", "seed", "error"])
    frame[list(_WHOLE)] = frame[list(_WHOLE)].astype("Int64")
    kept = [name for name in COLUMNS if name in _NEEDED or frame[name].notna().any()]
    return csv(frame[kept])


def read_csv(file: str | Path, what: str) -> pd.DataFrame:
    """A CSV file as texts.

    Args:
        file: with a header, UTF-8.
        what: of which rows, for messages.

    Raises:
        KdbenchError: it cannot be read, or is damaged.
    """
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        why = str(error).splitlines()[0].removeprefix("Error tokenizing data. C error: ")
        raise KdbenchError(f"{file}: no CSV of {what}: {why}") from None


def read_rows(file: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A frame and a record as :func:`kdbench.bench.results.labels.load_grid_results` gives them. Rows and columns of the table are
    in the order in which the file has them; gains refer to its first method.

    Raises:
        KdbenchError: it cannot be read, is no such file, or holds what is no accuracy.
    """
    path = Path(file)
    frame = read_csv(path, "runs").replace("", None)
    absent = [name for name in _NEEDED if name not in frame]
    if absent:
        raise KdbenchError(
            f"{path}: no CSV of runs, as kdbench table FOLDER --rows FILE writes it: without the column {absent[0]!r}"
            f"{did_you_mean(absent[0], map(str, frame.columns))}"
        )
    frame = frame.reindex(columns=COLUMNS).map(lambda value: value if pd.isna(value) else from_csv(value))
    for name in (*_WHOLE, *_PERCENT, *_OTHER, "trials"):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        limit = 100.0 if name in _PERCENT else float("inf")
        wrong = frame[name].notna() & ~((numbers >= 0) & (numbers <= limit) & (numbers < float("inf")))
        if wrong.any():
            line = int(wrong.to_numpy().argmax()) + 2
            what = "an accuracy in percent" if name in _PERCENT else "a number"
            raise KdbenchError(f"{path}, line {line}: {name} expects {what}, got {frame[name][line - 2]!r}")
        frame[name] = numbers
    done = frame[frame.error.isna()]
    gap = next((name for name in _NEEDED if name != "teacher" and done[name].isna().any()), "")
    if gap:
        raise KdbenchError(f"{path}, line {done.index[done[gap].isna()][0] + 2}: {gap} is empty")
    _check_cells(path, done)
    done = done.reset_index(drop=True)
    done[["teacher", "teacher_sha256"]] = done[["teacher", "teacher_sha256"]].fillna("")
    done["folder"] = None
    done.attrs |= {"skipped": [], "unfinished": 0}
    methods = list(dict.fromkeys(frame.label))
    failed = frame[frame.error.notna()]
    cells = [{"pair": r.pair, "method": r.label, "error": r.error, "run": ""} for r in failed.itertuples(index=False)]
    tuned = {
        (row.pair, row.label): {name: getattr(row, name) for name in _TUNED} | {"trials": int(row.trials)}
        for row in done[done.trials.notna()].itertuples(index=False)
    }
    record = {
        "name": path.stem,
        "pairs": list(dict.fromkeys(frame.pair)),
        "methods": methods,
        "baseline": "",
        "cells": cells,
    }
    return done, {**record, "notes": _notes(tuned), "tuned": tuned}


def _check_cells(path: Path, done: pd.DataFrame) -> None:
    """Refuse a seed that is no whole number or stands twice in a cell, and a cell whose runs are of several kinds."""
    broken = done.seed.ne(done.seed.round())
    if broken.any():
        raise KdbenchError(f"{path}: seed expects whole numbers, got {done.seed[broken].iloc[0]}")
    for (pair, label), part in done.groupby(["pair", "label"], sort=False):
        again = part.index[part.seed.duplicated()]
        if len(again):
            first = part.index[part.seed.eq(part.seed[again[0]])][0]
            raise KdbenchError(
                f"{path}, lines {first + 2} and {again[0] + 2}: two runs of {pair} / {label} with seed {part.seed[first]:.0f}"
            )
        for name in ("method", "teacher", "student", "dataset"):
            found = list(dict.fromkeys(part[name].fillna("")))
            if len(found) > 1:
                raise KdbenchError(
                    f"{path}: {pair} / {label} has runs of several kinds: {name} {found[0]!r} and {found[1]!r}"
                )


def _notes(tuned: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """What a table says of tuned methods; the values themselves stand in the file."""
    told: dict[str, list[str]] = {}
    for (_, label), how in tuned.items():
        if is_tuned_label(label):
            search = f"with seed {how['trial_seeds']} ({how['sampler']}), chosen on the {how['chosen_on']}"
            told.setdefault(f"{how['trials']} trials for each method and pair {search}", []).append(label)
    return [f"{', '.join(dict.fromkeys(labels))}: {what}." for what, labels in told.items()]
