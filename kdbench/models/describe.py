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


def describe_all() -> list[dict[str, Any]]:
    """The description of every registered model."""
    from kdbench.models.registry import models

    return [describe(name) for name in models.names()]
