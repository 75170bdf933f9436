"""What a grid's record says of its trials: the note under its tables, the chosen values, and which runs are trials."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdbench.bench.grids.grid import is_tuned_label as is_tuned_label
from kdbench.bench.grids.grid import tuned_label as tuned_label
from kdbench.bench.grids.grid_record import read_trial_runs

log = logging.getLogger(__name__)
_SEARCH = {"random": "random search", "qmc": "quasi-random search", "tpe": "tree-structured Parzen estimator"}


def tuning_notes(
    record: Mapping[str, Any], pairs: Mapping[str, str] | None = None, methods: Mapping[str, str] | None = None
) -> list[str]:
    """What a table of tuned methods says of their tuning; nothing where none was tuned.

    Args:
        record: of a grid.
        pairs, methods: other names of its pairs and labels.
    """
    sweep = record.get("sweep")
    if not sweep or not sweep["studies"]:
        return []
    pairs, methods = pairs or {}, methods or {}
    labels = list(dict.fromkeys(study["method"] for study in sweep["studies"]))
    named = [methods.get(label, label) for label in labels]
    others = [one for one in record["methods"] if one not in labels and one not in map(tuned_label, labels)]
    told = [
        f"{', '.join(map(tuned_label, named))}: {sweep['trials']} trial{'s' * (sweep['trials'] != 1)} for each method and pair "
        f"with {_seeds(sweep['seeds'])} ({_SEARCH.get(sweep['sampler'], sweep['sampler'])}{_rounds(sweep)}; the first trial has "
        "the published values), chosen on the validation part."
    ]
    chosen, failed = [], []
    for study in sweep["studies"]:
        name = f"{pairs.get(study['pair'], study['pair'])} / {methods.get(study['method'], study['method'])}"
        trial = _chosen(study)
        if trial is not None:
            own = " (as published)" if study["chosen"] == 1 else ""
            chosen.append(f"{name}: {shown_values(trial['values'], study['type'])}{own}")
        bad = sum(bool(one["error"]) for one in study["trials"])
        failed += [f"{name}: {bad}"] if bad else []
    told += [f"Chosen values: {'; '.join(chosen)}."] if chosen else []
    told += [f"Trials that failed, and count: {'; '.join(failed)}."] if failed else []
    told += [f"Not tuned: {', '.join(methods.get(one, one) for one in others)}."] if others else []
    return [" ".join(told)]


def tuned_values(record: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Of each tuned cell, by pair and label, what a table in columns says of it: ``trials``, ``trial_seeds``, ``sampler``,
    ``chosen_on`` and the ``values``."""
    sweep = record.get("sweep") or {"studies": []}
    found = {}
    for study in sweep["studies"]:
        trial = _chosen(study)
        if trial is not None:
            found[study["pair"], tuned_label(study["method"])] = {
                "trials": sweep["trials"],
                "trial_seeds": " ".join(map(str, sweep["seeds"])),
                "sampler": sweep["sampler"],
                "chosen_on": "validation part",
                "values": shown_values(trial["values"], study["type"]),
            }
    return found


def shown_values(values: Mapping[str, Any], kind: str) -> str:
    """Values by key in one line; keys of the method's own node without its name.

    Args:
        values: by full key.
        kind: ``DISTILLER.TYPE``.
    """
    own = [f"{part.strip().upper()}." for part in kind.split("+")]
    one = own[0] if len(own) == 1 else "\0"
    return ", ".join(f"{key.removeprefix(one)} {_value(value)}" for key, value in sorted(values.items()))


def trial_runs(folder: str | Path) -> dict[str, tuple[str, int]]:
    """The runs of a grid's folder that are trials, with the label of their method and their number; a run that several trials
    share has those of the first, one that is in a cell, too, is not here. A damaged record is named, and tells nothing."""
    try:
        return read_trial_runs(folder)
    except ValueError as error:
        log.warning("%s is damaged (%s): which of its runs are trials is not known", Path(folder) / "grid.json", error)
        return {}


def _chosen(study: Mapping[str, Any]) -> Mapping[str, Any] | None:
    number = study["chosen"]
    return None if number is None else study["trials"][number - 1]


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def _rounds(sweep: Mapping[str, Any]) -> str:
    return f" in {sweep['rounds']} rounds" if sweep["rounds"] > 1 else ""


def _value(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, (list, tuple)) else str(value)
