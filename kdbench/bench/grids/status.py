"""Where a grid stands, from its folder alone; without torch, so that thousands of cells are shown at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kdbench.bench.grids.grid_record import Results, read_grid_record, reader_of
from kdbench.bench.grids.state import read_states
from kdbench.bench.grids.trials import count_trials
from kdbench.errors import KdbenchError

STATES = ("done", "running", "failed", "waiting")


@dataclass(frozen=True)
class Status:
    """Counts by pair and state; by label the reasons of failures, and host, process and progress of runs that are under way; by
    pair and method the top-1 of the last epoch of the runs that are done, in percent; trials by state, of a grid that tunes its
    methods."""

    name: str
    pairs: dict[str, dict[str, int]]
    teachers: dict[str, str]
    failed: dict[str, str]
    running: dict[str, str]
    top1: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    trials: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> dict[str, int]:
        """Counts over all pairs."""
        return {state: sum(counts[state] for counts in self.pairs.values()) for state in STATES}

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it: ``top1`` a list of pair, method and values."""
        top1 = [{"pair": pair, "method": method, "top1": values} for (pair, method), values in self.top1.items()]
        return {**asdict(self), "total": self.total, "top1": top1}


def grid_status(folder: str | Path, results: Results | None = None) -> Status:
    """Where the grid of a folder stands.

    Args:
        folder: the grid's.
        results: of its runs; to look again and again, one from :func:`kdbench.bench.grids.grid_record.reader_of`.

    Raises:
        KdbenchError: no grid was started there, or its record is damaged.
    """
    states = read_states(folder)
    look = reader_of(folder) if results is None else results
    try:
        record = read_grid_record(folder, look, states)
    except ValueError:
        raise KdbenchError(
            f"{Path(folder) / 'grid.json'} is damaged: run the grid's command again, which writes it anew"
        ) from None
    if record is None:
        raise KdbenchError(f"no grid was started in {str(folder)!r}")
    pairs: dict[str, Counter[str]] = {pair: Counter() for pair in record["pairs"]}
    failed: dict[str, str] = {}
    running: dict[str, str] = {}
    top1: dict[tuple[str, str], list[float]] = {}
    for cell in record["cells"]:
        state = states.get(cell["key"], {})
        label = f"{cell['pair']} / {cell['method']} / seed {cell.get('seed', '?')}"
        what = _what(state, cell["run"], cell["error"])
        pairs.setdefault(cell["pair"], Counter())[what] += 1
        if what == "done" and (result := look(cell["run"])):
            top1.setdefault((cell["pair"], cell["method"]), []).append(float(result["top1_last"]))
        elif what == "failed":
            failed[label] = str(state.get("error") or cell["error"])
        elif what == "running":
            running[label] = _whereabouts(state)
    teachers = {n: _what(states.get(k, {}), record["trained"].get(n)) for n, k in record["teachers"].items()}
    failed |= {
        f"teacher {n}": str(states[record["teachers"][n]].get("error")) for n, s in teachers.items() if s == "failed"
    }
    running |= {
        f"teacher {n}": _whereabouts(states[record["teachers"][n]]) for n, s in teachers.items() if s == "running"
    }
    counts = {p: {s: c[s] for s in STATES} for p, c in pairs.items()}
    trials = count_trials(record, states)
    return Status(record["name"], counts, teachers, failed, running, top1, tuple(record["methods"]), trials)


def _what(state: Mapping[str, Any], run: str | None, error: str = "") -> str:
    """Of a cell or teacher: done is what has a run; a state that says so of a run that is not there says nothing."""
    if run:
        return "done"
    told = str(state.get("status", "done"))
    return told if told != "done" else "failed" if error else "waiting"


def _whereabouts(state: Mapping[str, Any]) -> str:
    """Where a run is under way, and how far it has come, as its worker noted it."""
    words = [str(state.get("host", "?")), f"process {state.get('pid', '?')}"]
    if "epoch" in state and "epochs" in state:
        words.append(f"epoch {state['epoch']} of {state['epochs']}")
    if "step" in state and "steps" in state:
        words.append(f"step {state['step']} of {state['steps']}")
    return ", ".join(words)


def grouped(failed: dict[str, str]) -> list[str]:
    """A line a reason, most frequent first; reasons that differ in numbers and paths only are one."""
    groups: dict[str, list[str]] = {}
    for label, reason in failed.items():
        groups.setdefault(re.sub(r"\d+|\S*/\S*", "#", reason), []).append(label)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [
        f"failed: {len(labels)} runs: {failed[labels[0]]} ({labels[0]}, for instance)"
        if len(labels) > 1
        else f"failed: {labels[0]}: {failed[labels[0]]}"
        for labels in ordered
    ]
