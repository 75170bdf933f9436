"""What ``grid.json`` says of the trials of a grid that tunes its methods, and how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdbench.records import Kind, is_count, is_text, list_of, mapping_of, or_none

States = Mapping[str, Mapping[str, Any]]


def _fields(kinds: Mapping[str, Kind]) -> Kind:
    """A mapping with these fields."""
    return lambda value: (
        isinstance(value, dict) and all(key in value and fits(value[key]) for key, fits in kinds.items())
    )


_TRIAL = {
    "values": lambda value: isinstance(value, dict),
    "keys": list_of(is_text),
    "score": or_none(lambda value: isinstance(value, (int, float))),
    "error": is_text,
}
_STUDY = {
    "pair": is_text,
    "method": is_text,
    "type": is_text,
    "trials": list_of(_fields(_TRIAL)),
    "chosen": or_none(is_count),
}
_SWEEP = {
    "trials": is_count,
    "seeds": list_of(is_count),
    "sampler": is_text,
    "rounds": is_count,
    "studies": list_of(lambda study: _fields(_STUDY)(study) and (study["chosen"] or 0) <= len(study["trials"])),
}
#: fields of the record: how methods are tuned, with every trial; and the runs of all trials there ever were, by key
TRIAL_KINDS: dict[str, Kind] = {"sweep": _fields(_SWEEP), "trials": mapping_of(is_text)}


def runs_of_trials(record: Mapping[str, Any], states: States) -> dict[str, tuple[str, int]]:
    """Runs that are trials and stand in no cell: the label of their method, and the trial's number; of a trial that the grid no
    longer makes an empty label and 0.

    Args:
        record: of a grid.
        states: from :func:`kdbench.bench.grids.state.read_states`.
    """

    def runs(key: str, told: str | None) -> set[str]:
        return {str(run) for run in (told, states.get(key, {}).get("run")) if run}

    in_cells = {run for cell in record["cells"] for run in runs(cell["key"], cell["run"])}
    found: dict[str, tuple[str, int]] = {}
    for study in record.get("sweep", {"studies": []})["studies"]:
        for number, trial in enumerate(study["trials"], 1):
            for key in trial["keys"]:
                for run in runs(key, record["trials"].get(key)) - in_cells:
                    found.setdefault(run, (study["method"], number))
    for key, told in record["trials"].items():
        for run in runs(key, told) - in_cells:
            found.setdefault(run, ("", 0))
    return found


def with_runs(trials: Mapping[str, str], states: States) -> dict[str, str]:
    """The runs of trials by key, as far as their states name them."""
    return {key: str(states.get(key, {}).get("run") or run) for key, run in trials.items()}


def count_trials(record: Mapping[str, Any], states: States) -> dict[str, int]:
    """Trials by state; those that are not asked for yet are waiting. Empty for a grid without any."""
    sweep = record.get("sweep")
    if not sweep:
        return {}
    counts = dict.fromkeys(("done", "running", "failed", "waiting"), 0)
    for study in sweep["studies"]:
        for trial in study["trials"]:
            told = {str(states.get(key, {}).get("status", "waiting")) for key in trial["keys"]}
            counts["failed" if trial["error"] else _together(told)] += 1
        counts["waiting"] += sweep["trials"] - len(study["trials"])
    return counts


def _together(told: set[str]) -> str:
    """The state of a trial, from those of its runs."""
    for state in ("failed", "running", "waiting"):
        if state in told:
            return state
    return "done"
