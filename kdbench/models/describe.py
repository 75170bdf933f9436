"""Networks in figures, by building each on the meta device: rows for ``kdbench/catalogue.py``, which answers without that."""

from __future__ import annotations

from typing import Any


def describe(name: str) -> dict[str, Any]:
    """Family, parameters (100 classes), input, penultimate width and stages of a model, from its spec on the meta device; stages of
    a network that is read by hooks have the names of its submodules."""
    import torch

    from kdbench.models.names import find_entry
    from kdbench.models.zoo import create_model

    entry = find_entry(name)
    with torch.device("meta"):
        model = create_model(name, num_classes=100)
    spec, named = model.spec, getattr(model.backbone, "stage_names", None)  # of a network that is read by hooks
    places = [f"{named[int(s.name)]} " if named else "" for s in spec.stages]
    return {
        "name": entry.name,
        "family": spec.family,
        "params": spec.params,
        "input": spec.input_size[0],
        "any_size": entry.any_size,
        "penultimate": spec.penultimate,
        "stages": [f"{place}{s.channels}x{s.grid[0]}x{s.grid[1]}" for place, s in zip(places, spec.stages)],
        "tag": entry.tag,
        "about": entry.about,
    }


def describe_all(*, strict: bool = False) -> list[dict[str, Any]]:
    """The description of every registered model; of one that cannot be built for 100 classes the reason in the place of its stages.

    Raises:
        ModelError: ``strict``, and one cannot be built.
    """
    from kdbench.errors import ModelError
    from kdbench.models.registry import models

    rows = []
    for name in models.names():
        try:
            rows.append(describe(name))
        except ModelError as error:
            if strict:
                raise
            entry = models.get(name)
            figures = {"params": 0, "input": entry.input_size, "any_size": entry.any_size, "penultimate": 0}
            row = {"name": entry.name, "family": entry.family, **figures, "stages": [f"({error})"]}
            rows.append(row | {"tag": entry.tag, "about": entry.about})
    return rows
