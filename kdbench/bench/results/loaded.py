"""Finished runs for users: a row a run, with the labels that their grids give them and the values that tell them apart."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from kdbench.bench.results.frames import run_frame
from kdbench.bench.results.labels import labels_of_runs
from kdbench.bench.results.recipe import recipe_of_run
from kdbench.bench.results.tuning import trial_runs
from kdbench.config.defaults import defaults

log = logging.getLogger(__name__)


def load_results(
    folder: str | Path,
    *,
    detail: bool = False,
    environment: bool = False,
    hyperparameters: bool = False,
    trials: bool = False,
) -> pd.DataFrame:
    """One row per finished run below ``folder``; unreadable files are skipped by name, in a warning. Trials of a grid that tunes
    its methods are left out, since no mean over a method's seeds may hold one. A run that its grid calls by two labels, since
    tuning chose the published values, has a row for each.

    Columns: those of :func:`kdbench.bench.results.frames.run_frame`, and

    - ``grid``: name of the grid in whose folder the run lies; empty for others;
    - ``label``: what the grid calls its method (two settings of one method have two), else the method; the run of a teacher has
      none in its grid, where it stands in no cell;
    - with ``hyperparameters`` a column for every key of the configuration (``KD.TEMPERATURE``) in which the runs differ, empty for
      a run that has no such key;
    - with ``trials`` the number of the trial, from 1 (``trial``); empty for a run that is not only a trial.

    Args:
        folder: a grid's folder, or any folder above runs.
        detail: speed, memory and environment, too.
        environment: the environment alone.
        hyperparameters: see above.
        trials: the runs of trials, too; their label is that of the method which they tune.

    Raises:
        KdbenchError: there is no such folder.
    """
    frame = run_frame(folder, detail=detail, environment=environment, trials=trials)
    attrs = dict(frame.attrs)
    told = labels_of_runs(frame)
    rows = [(n, label) for n, place in enumerate(frame.folder) for label in _of(told, place, frame.method.iloc[n])]
    frame = frame.iloc[[n for n, _ in rows]].reset_index(drop=True)
    frame.insert(1, "grid", [told[place][0] if place in told else "" for place in frame.folder])
    frame.insert(2, "label", [label for _, label in rows])
    if trials:
        _name_trials(frame)
    if hyperparameters:
        frame = pd.concat([frame, _values(frame)], axis=1)
    frame.attrs |= attrs
    return frame


def _of(told: Mapping[str, tuple[str, list[str]]], place: str, method: str) -> list[str]:
    """Labels of a run: those of its grid, else its method."""
    return told[place][1] if place in told else [method]


def _name_trials(frame: pd.DataFrame) -> None:
    """Give runs that are only trials their label and number."""
    found = {
        str(parent / run): told
        for parent in dict.fromkeys(Path(place).parent for place in frame.folder)
        for run, told in trial_runs(parent).items()
    }
    told = [found.get(str(Path(place))) for place in frame.folder]
    frame["label"] = [label if one is None else one[0] for one, label in zip(told, frame.label)]
    frame.insert(3, "trial", pd.array([None if one is None or not one[1] else one[1] for one in told], dtype="Int64"))


def _values(frame: pd.DataFrame) -> pd.DataFrame:
    """Keys in which the runs differ, a column each; of a method's own keys those in which its runs do."""
    recipes = [dict(found.recipe) if (found := recipe_of_run(place)) is not None else {} for place in frame.folder]
    nodes = {key.partition(".")[0] for key in defaults()}

    def differs(key: str) -> bool:
        # a method's own keys are missing in runs of others, which is no difference
        there = [one.get(key) for one in recipes if key in one or key.partition(".")[0] in nodes]
        return len({repr(value) for value in there}) > 1

    keys = dict.fromkeys(key for one in recipes for key in one if key != "DISTILLER.TYPE")
    return pd.DataFrame({key: [one.get(key) for one in recipes] for key in keys if differs(key)}, index=frame.index)
