"""What a cell or a task asks for, held against what a run's own result says of it: no other run's figure may take its place.

Nothing here imports torch, but for names of networks that are not equal as they are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from kdbench.config.teachers import AND
from kdbench.errors import shown

#: facts of a run that a grid knows, as ``result.json`` names them
FACTS = ("method", "teacher", "student", "dataset", "seed")


def asked_of_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell of ``grid.json`` asks for, as far as that says so."""
    names = {"method": "type", "student": "student", "dataset": "dataset", "seed": "seed"}
    asked = {fact: cell[key] for fact, key in names.items() if key in cell}
    return {**asked, "teacher": cell["network"]} if "network" in cell else asked


def contradiction(asked: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """In what a run is another one than was asked for, in words; empty where it may be that one.

    Args:
        asked: some of :data:`FACTS`.
        found: the run's result.
    """
    for fact in FACTS:
        if fact in asked and not _same(fact, asked[fact], found[fact]):
            return f"its {fact} is {shown(found[fact] or 'none')}, not {shown(asked[fact] or 'none')}"
    return ""


def other_teacher(name: str, sha256: str | None, known: Mapping[str, Set[str]]) -> str:
    """The teacher of the grid from which a run learned in the place of ``name``; empty where there is no such.

    Args:
        name: of the teacher that was asked for.
        sha256: of the weights from which the run learned.
        known: names of the grid's teachers by the hash of their weights. A hash that is not among them tells nothing: a teacher may
            have been trained anew.
    """
    hashes = (sha256 or "").split(AND)
    for one, own in zip(name.split(AND) if len(hashes) > 1 else [name], hashes):
        names = known.get(own, set())
        if names and one not in names:
            return min(names)
    return ""


def _same(fact: str, asked: Any, found: Any) -> bool:
    if fact == "seed":
        return bool(asked == found)
    one, two = (str(value).casefold() for value in (asked, found))
    if fact == "dataset":  # of 'folder:<path>' the kind: the same images may lie elsewhere
        return one.partition(":")[0] == two.partition(":")[0]
    if one == two or fact == "method":
        return one == two
    from kdbench.models.names import canonical_name

    return [canonical_name(name).casefold() for name in str(asked).split(AND)] == [
        canonical_name(name).casefold() for name in str(found).split(AND)
    ]
