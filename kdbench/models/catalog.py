"""The catalogue of registered models: ``catalog.json``, made from the specs by ``python -m kdbench.models.catalog``.

``kdbench list models`` reads it instead of building networks, and so do tables; a test holds it against the specs.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from kdbench.models.networks.paper_names import LARGE_IMAGE, PAPER, SHARED

CATALOG = Path(__file__).with_name("catalog.json")


def describe(name: str) -> dict[str, Any]:
    """Family, parameters (100 classes), input, penultimate width and stages of a model, from its spec on the meta device."""
    import torch

    from kdbench.models.names import find_entry
    from kdbench.models.zoo import create_model

    entry = find_entry(name)
    with torch.device("meta"):
        spec = create_model(name, num_classes=100).spec
    return {
        "name": entry.name,
        "family": spec.family,
        "params": spec.params,
        "input": spec.input_size[0],
        "any_size": entry.any_size,
        "penultimate": spec.penultimate,
        "stages": [f"{s.channels}x{s.grid[0]}x{s.grid[1]}" for s in spec.stages],
        "tag": entry.tag,
        "about": entry.about,
    }


def build_catalog() -> list[dict[str, Any]]:
    """The description of every registered model."""
    from kdbench.models.registry import models

    return [describe(name) for name in models.names()]


def read_catalog() -> list[dict[str, Any]]:
    """The catalogue as checked in."""
    return json.loads(CATALOG.read_text(encoding="utf-8"))


def catalogued(name: str, side: int = 0) -> tuple[str, str] | None:
    """Name and tag of the entry that :func:`kdbench.models.names.find_entry` finds, without importing networks.

    Args:
        name: a registered name or alias, whatever the case of its letters.
        side: of the image, in pixels; 0 = unknown.

    Returns:
        None for a name that is not in the catalogue: one with a prefix, of a plug-in, or of nothing.
    """
    found = _by_name().get(name.lower())
    if found and found[0] in SHARED and side >= LARGE_IMAGE:
        return _by_name()[SHARED[found[0]].lower()]
    return found


@functools.cache
def _by_name() -> dict[str, tuple[str, str]]:
    found = {str(row["name"]).lower(): (str(row["name"]), str(row["tag"])) for row in read_catalog()}
    return found | {alias.lower(): found[name.lower()] for name, paper in PAPER.items() for alias in paper.aliases}


if __name__ == "__main__":
    CATALOG.write_text(json.dumps(build_catalog(), indent=1) + "\n", encoding="utf-8")
