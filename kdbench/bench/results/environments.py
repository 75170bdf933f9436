"""What is said of a comparison whose runs were not made in one environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

#: facts of an environment that may change a result, with the words for them
FACTS = {
    "kdbench": "kdbench",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "device": "devices",
    "gpu": "GPU",
    "world_size": "processes",
    "deterministic": "RUNTIME.DETERMINISTIC",
    "compile": "SOLVER.COMPILE",
}
_CODE = "code"  # of the method: it differs between methods, and counts within a cell alone
_SHOWN = 3  # cells that a remark names


def mixed_environments(runs: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Remarks on runs that differ in what may change a result besides their configuration.

    Args:
        runs: (cell, environment) of each run; of a fact that was not recorded nothing is said.

    Returns:
        A sentence on the facts that differ, with the number of runs of each value and the cells that average over them, and
        one on cells whose runs were made by different versions of their method's code; nothing where all agree.
    """
    values: dict[str, Counter[str]] = {fact: Counter() for fact in (*FACTS, _CODE)}
    by_cell: dict[str, dict[str, set[str]]] = {}
    for cell, environment in runs:
        for fact, counts in values.items():
            value = environment.get(fact)
            if value is not None and value == value and value != "":
                counts[str(value)] += 1
                by_cell.setdefault(cell, {}).setdefault(fact, set()).add(str(value))
    differing = [fact for fact in FACTS if len(values[fact]) > 1]
    remarks = []
    if differing:
        told = "; ".join(f"{FACTS[fact]} {_counts(values[fact])}" for fact in differing)
        within = [cell for cell, facts in by_cell.items() if any(len(facts.get(fact, ())) > 1 for fact in differing)]
        where = f"; averaged within {_named(within)}" if within else ""
        remarks.append(f"Runs of different environments are compared: {told}{where}.")
    changed = [cell for cell, facts in by_cell.items() if len(facts.get(_CODE, ())) > 1]
    if changed:
        remarks.append(f"Runs by different versions of a method's code are averaged: {_named(changed)}.")
    return remarks


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{value} ({count} run{'s' * (count > 1)})" for value, count in sorted(counts.items()))


def _named(cells: list[str]) -> str:
    return ", ".join(cells[:_SHOWN]) + (f" and {len(cells) - _SHOWN} more" if len(cells) > _SHOWN else "")


def environment_of(row: Any) -> dict[str, Any]:
    """The environment of a row of :func:`kdbench.load_results` with its ``env_`` columns."""
    return {fact: getattr(row, f"env_{fact}", None) for fact in (*FACTS, _CODE)}
