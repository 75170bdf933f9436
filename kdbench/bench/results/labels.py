"""Which row and column of a comparison a run belongs to: as its grid says, or by its own teacher, student and method."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.bench.grids.asked import FACTS
from kdbench.bench.grids.grid import is_tuned_label, tuned_label
from kdbench.bench.grids.grid_record import GRID_FILE, Results, read_grid_record
from kdbench.bench.results.display_names import known_network, paper_dataset, paper_method
from kdbench.bench.results.frames import run_frame
from kdbench.bench.results.recipe import Recipe, disagreement, recipe_of_run
from kdbench.bench.results.rows_file import is_rows_file, read_rows
from kdbench.bench.results.tuning import tuned_values, tuning_notes
from kdbench.config.teachers import AND
from kdbench.errors import KdbenchError

log = logging.getLogger(__name__)
#: sections of a configuration that are the method's or the run's own; the others two methods of a pair share
_OWN = ("DISTILLER", "TEACHER")


def load_grid_results(folder: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The results of a grid's folder with the grid's own labels (``pair``, ``label``), and the grid's record.

    Without a ``grid.json`` rows are labelled ``teacher -> student`` (with the data set, where there are several) and columns by
    method; a student that was trained alone stands in the row of every teacher.

    A CSV file of rows is read in the place of a folder; see :func:`kdbench.bench.results.rows_file.read_rows`.

    Raises:
        KdbenchError: there is no such folder, its ``grid.json`` is damaged, or (without one) a cell has runs of several recipes.
    """
    if is_rows_file(folder):
        return read_rows(folder)
    frame = run_frame(folder, environment=True)
    record = _record(Path(folder), frame)
    if record is not None:
        merged = _cells(record).merge(_named(frame), on="run_id", how="left")
        merged.attrs |= frame.attrs
        return merged, {**record, "notes": tuning_notes(record), "tuned": tuned_values(record)}
    labelled, record = _derive_labels(_tuned_apart(frame))
    _check_recipes(labelled, folder)
    return labelled, record


def load_blocks(folder: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The results of every grid below a folder as one comparison: a row a data set, teacher and student, a column a method,
    each by the name that the tables give to it.

    Raises:
        KdbenchError: there is no such folder, a ``grid.json`` is damaged, or a row mixes recipes.
    """
    frame = run_frame(folder, environment=True)
    parts, baselines, failed, notes = [], [], [], []
    for file in sorted(Path(folder).rglob(GRID_FILE)):
        own = frame[[Path(place).parent == file.parent for place in frame.folder]]
        record = _record(file.parent, own)
        assert record is not None  # the file is there
        rows = _cells(record).merge(_named(own), on="run_id", how="inner")
        methods = _method_names(record)
        rows = rows.assign(grid=str(file.parent), label=rows.label.map(methods))
        named = _block_names(rows)
        parts.append(rows.assign(pair=rows.pair.map(named)))
        notes += tuning_notes(record, named, methods)
        baselines.append(methods.get(record["baseline"], record["baseline"]))
        failed += [
            {**cell, "pair": named[cell["pair"]], "method": methods[cell["method"]]}
            for cell in record["cells"]
            if cell["pair"] in named
        ]
    if not parts:
        return load_grid_results(folder)
    # the same run under two grids is one observation
    merged = pd.concat(parts).drop_duplicates(["pair", "label", "seed", "run_id"]).reset_index(drop=True)
    merged.attrs |= frame.attrs
    _check_recipes(merged, folder)
    _check_shared(merged, folder)
    columns = list(dict.fromkeys(merged.label))
    baseline = "KD" if "KD" in columns else next((b for b in baselines if b in columns), "")
    pairs = list(dict.fromkeys(merged.pair))
    found = {"name": "", "pairs": pairs, "methods": columns, "baseline": baseline, "cells": failed, "notes": notes}
    return merged, found


def grids_below(folder: str | Path) -> int:
    """Number of grids whose folders lie at or below a folder."""
    return sum(1 for _ in Path(folder).rglob(GRID_FILE))


def results_of(frame: pd.DataFrame) -> Results:
    """What the results of a frame say of their runs, for :func:`kdbench.bench.grids.grid_record.read_grid_record`."""
    facts: list[dict[str, Any]] = frame[["run_id", *FACTS, "teacher_sha256", "student_sha256"]].to_dict("records")
    return {str(row["run_id"]): row for row in facts}.get


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Without results that were copied into the folder of another run."""
    own = [Path(place).name == run for place, run in zip(frame.folder, frame.run_id)]
    return frame[pd.Series(own, index=frame.index, dtype=bool)]


def labels_of_runs(frame: pd.DataFrame) -> dict[str, tuple[str, list[str]]]:
    """Grid and labels by a run's folder, of those that lie in the folder of a grid. A run that stands for two settings (tuning
    chose the published values) has both labels; that of a teacher, which stands in no cell, has an empty one."""
    found: dict[str, tuple[str, list[str]]] = {}
    for parent in dict.fromkeys(Path(place).parent for place in frame.folder):
        if not (parent / GRID_FILE).is_file():
            continue
        own = frame[[Path(place).parent == parent for place in frame.folder]]
        try:
            record: dict[str, Any] | None = read_grid_record(parent, results_of(own))
        except ValueError as error:
            log.warning("%s is damaged (%s): its runs have no labels", parent / GRID_FILE, error)
            continue
        assert record is not None  # the file is there
        labels: dict[str, dict[str, None]] = {}
        for cell in record["cells"]:
            if cell["run"]:
                labels.setdefault(str(cell["run"]), {})[str(cell["method"])] = None
        found |= {str(p): (str(record["name"]), list(labels.get(Path(p).name, {"": None}))) for p in own.folder}
    return found


def _tuned_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs of several grids by their methods, those with tuned values as a method of their own."""
    told, rows, methods = labels_of_runs(frame), [], []
    for number, (place, method) in enumerate(zip(frame.folder, frame.method)):
        for name in dict.fromkeys(
            tuned_label(method) if is_tuned_label(label) else method for label in told.get(place, ("", [""]))[1]
        ):
            rows.append(number)
            methods.append(name)
    apart = frame.iloc[rows].reset_index(drop=True).assign(method=methods)
    apart.attrs |= frame.attrs
    return apart


def _record(folder: Path, frame: pd.DataFrame) -> dict[str, Any] | None:
    try:
        return read_grid_record(folder, results_of(frame))
    except ValueError:
        raise KdbenchError(
            f"{folder / GRID_FILE} is damaged: run the grid's command again, which writes it anew"
        ) from None


def _cells(record: dict[str, Any]) -> pd.DataFrame:
    cells = pd.DataFrame(record["cells"], columns=["pair", "method", "run"])
    return cells.rename(columns={"method": "label", "run": "run_id"})


def _method_names(record: dict[str, Any]) -> dict[str, str]:
    """The names of the tables by a grid's labels; two of its methods that share a column there (SDD and SDD_DKD) stay apart."""
    names = {str(cell["method"]): paper_method(str(cell["method"])) for cell in record["cells"]}
    shared = Counter(names.values())
    return {label: name if shared[name] == 1 else label for label, name in names.items()}


def _block_names(rows: pd.DataFrame) -> dict[str, str]:
    """What a grid's pairs are about, by their labels; a student alone has the teacher of its row."""
    names: dict[str, str] = {}
    for pair, part in rows.groupby("pair", sort=False):
        taught = part[part.teacher != ""]
        row = (taught if len(taught) else part).iloc[0]
        teacher = f"{_network(row.teacher)} -> " if row.teacher else ""
        names[str(pair)] = f"{paper_dataset(row.dataset)}: {teacher}{_network(row.student)}"
    return names


def _network(name: str) -> str:
    return AND.join(known_network(part) or part for part in name.split(AND))


def _derive_labels(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    several = frame.dataset.nunique() > 1

    def name(row: Any) -> str:
        return f"{row.teacher} -> {row.student}" + (f", {row.dataset}" if several else "")

    taught = frame[frame.teacher != ""]
    kinds = taught.drop_duplicates(["dataset", "teacher", "student"])
    rows = []
    for kind in kinds.itertuples(index=False):
        place = (frame.dataset == kind.dataset) & (frame.student == kind.student)
        rows.append(_labelled(frame[place & frame.teacher.isin(["", kind.teacher])], name(kind)))
    # taught rows first, so that columns stand in the order in which methods were met
    labelled = pd.concat(rows).sort_values("teacher", key=lambda t: t == "", kind="stable") if rows else None
    if labelled is None:
        alone = frame.student + (", " + frame.dataset if several else "")
        labelled = frame.assign(pair=alone, label=frame.method)
    labelled.attrs |= frame.attrs
    pairs, methods = list(dict.fromkeys(labelled.pair)), list(dict.fromkeys(labelled.label))
    return labelled, {"name": "", "pairs": pairs, "methods": methods, "baseline": "KD", "cells": []}


def _labelled(frame: pd.DataFrame, pair: str) -> pd.DataFrame:
    return frame.assign(pair=pair, label=frame.method)


def _check_recipes(labelled: pd.DataFrame, folder: str | Path) -> None:
    """Refuse a mean over runs that were not made in one way."""
    for (pair, label), part in labelled.groupby(["pair", "label"], sort=False):
        told = disagreement(found) if (found := _recipes(part)) else ""
        if told:
            raise KdbenchError(
                f"{pair} / {label} was run under several recipes below {str(folder)!r} ({told}); render the folder of one grid"
            )


def _check_shared(blocks: pd.DataFrame, folder: str | Path) -> None:
    """Refuse a row whose methods two grids trained in two ways: the difference would not be the methods'."""
    for pair, part in blocks.groupby("pair", sort=False):
        if part.grid.nunique() < 2:
            continue
        firsts = [found[:1] for _, group in part.groupby("grid", sort=False) if (found := _recipes(group))]
        shared = [_shared(recipe) for [recipe] in firsts]
        told = disagreement(shared) if shared else ""
        if told:
            raise KdbenchError(
                f"{pair} was run under several recipes by the grids below {str(folder)!r} ({told}); move one of them away"
            )


def _shared(recipe: Recipe) -> Recipe:
    from kdbench.config.defaults import defaults

    sections = set(defaults()) - set(_OWN)
    return {key: value for key, value in recipe.items() if key.partition(".")[0] in sections}


def _recipes(part: pd.DataFrame) -> list[Recipe]:
    found = (recipe_of_run(folder) for folder in part.folder)
    return [run.recipe for run in found if run is not None]
