"""The classes that a file of weights knows, by their names, and their order."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdbench.errors import ModelError, shown
from kdbench.models.backbone.classifier import classifier_keys
from kdbench.models.weights.recorded import Recorded

log = logging.getLogger(__name__)
_LARGEST_FILE = 10_000_000


def stored_class_names(weights: str, metadata: Mapping[str, Any], stored: Recorded) -> list[str] | None:
    """Names of a classifier's outputs, in their order: of a kdbench export its metadata's, of a timm file those of the class map
    that it was trained with, where that is found (by its path, or beside the weights). None where nothing says them.

    Args:
        weights: the file.
        metadata: as :func:`kdbench.models.weights.read.read_weights` gives it.
        stored: as :func:`kdbench.models.weights.read.read_recorded` gives it.

    Raises:
        ModelError: the class map cannot be read.
    """
    names = metadata.get("classes")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ModelError(
                f"{weights}: its classes {names!r:.60} are no list of names; the file was changed, export it anew"
            )
        return names or None
    return _class_map(weights, stored.class_map) if stored.class_map else None


def _class_map(weights: str, name: str) -> list[str] | None:
    try:
        places = [place for place in (Path(name), Path(weights).parent / Path(name).name) if place.is_file()]
    except OSError:  # a name too long for a file's
        places = []
    if not places or places[0].suffix.lower() != ".txt":
        log.warning(
            "%s was trained with the class map %s, which %s: its outputs are taken to be in the data set's order",
            *(weights, shown(name), "is no text file and is not read" if places else "is not here"),
        )
        return None
    try:
        if places[0].stat().st_size > _LARGEST_FILE:
            raise ModelError(f"{places[0]}: too large for a class map")
        return [line.strip() for line in places[0].read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{places[0]}: the class map of {weights} cannot be read ({error})") from None


def output_order(names: Sequence[str], classes: Sequence[str], source: str) -> list[int] | None:
    """Which output belongs to each class of a data set: ``order[i]`` is the place of ``classes[i]`` among ``names``; None where
    they are the same.

    Raises:
        ModelError: the names are not those of the data set.
    """
    if list(names) == list(classes):
        return None
    strange, missing = sorted(set(names) - set(classes)), sorted(set(classes) - set(names))
    if strange or missing or len(names) != len(set(names)):
        what = (
            f"it knows {strange[0]!r}, which the data set does not have"
            if strange
            else f"it does not know {missing[0]!r}"
            if missing
            else "it names a class twice"
        )
        raise ModelError(
            f"{source} was trained on other classes than the data set's: {what} ({len(strange)} and {len(missing)} names differ); "
            "name weights for these classes, or start with a fresh classifier: HEAD: reset, for a backbone that is to be trained on"
        )
    places = {name: place for place, name in enumerate(names)}
    return [places[name] for name in classes]


def reorder_classifier(backbone: nn.Module, order: Sequence[int], source: str) -> None:
    """Bring the outputs of a network into another order: new output ``i`` is the old ``order[i]``.

    Raises:
        ModelError: it has no classifier of that many outputs.
    """
    own, places = backbone.state_dict(), torch.tensor(list(order))
    keys = [key for key in classifier_keys(backbone) if own[key].dim() and len(own[key]) == len(places)]
    if not keys or len(keys) != len([key for key in classifier_keys(backbone) if own[key].dim()]):
        raise ModelError(
            f"the outputs of {source} are in another order than the data set's classes, and this network's classifier cannot be "
            "reordered; give the data set the file's order (DATASET.OPTIONS.class_order)"
        )
    backbone.load_state_dict({**own, **{key: own[key].index_select(0, places) for key in keys}})
    log.info("%s: its outputs are brought into the order of the data set's classes, by their names", source)
