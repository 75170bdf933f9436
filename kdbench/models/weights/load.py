"""Weights into a network: published ones or a file's, the statistics of their input and the order of their classes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

from kdbench.domains import as_statistics
from kdbench.errors import ModelError, did_you_mean
from kdbench.models.backbone.classifier import classifier_keys
from kdbench.models.registry import ModelEntry
from kdbench.models.spec import IDENTITY, Statistics

log = logging.getLogger(__name__)


class UnknownStatisticsError(ModelError):
    """Weights that do not say how their inputs were normalised."""


NORMS: dict[str, Statistics] = {
    "none": IDENTITY,
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def load_weights(
    backbone: Any,
    entry: ModelEntry,
    weights: str,
    head: str,
    ema: bool,
    num_classes: int,
    options: dict[str, Any],
    classes: Sequence[str],
) -> tuple[Statistics | None, bool]:
    """Load the weights that a configuration names into a network; see :func:`kdbench.models.zoo.create_model`.

    Returns:
        The statistics that came with them, and whether the classifier stayed fresh beside them.

    Raises:
        ModelError: they do not fit, or know other classes.
    """
    if not weights:
        return None, False
    if weights == "pretrained":
        if entry.tag.startswith("torchvision "):
            from kdbench.models.networks.torchvision_networks import load_torchvision

            return load_torchvision(backbone, entry.tag.partition(" ")[2], num_classes)
        from kdbench.models.networks.timm_networks import load_pretrained

        return load_pretrained(backbone, entry, num_classes, options)
    from kdbench.models.networks.timm_networks import adapt_to_timm
    from kdbench.models.weights.channels import adapt_channels
    from kdbench.models.weights.class_names import output_order, reorder_classifier, stored_class_names
    from kdbench.models.weights.export import own_statistics
    from kdbench.models.weights.fit import HeadMismatchError
    from kdbench.models.weights.read import load_into, read_recorded, read_weights

    state, metadata = read_weights(weights, use_ema=ema, needed=backbone.state_dict())
    state = adapt_channels(backbone, state, str(weights))
    names = stored_class_names(weights, metadata, read_recorded(weights)) if classes else None
    if head == "reset" and names is not None and set(names) != set(classes):
        log.info("%s: its classifier is for other classes, and is dropped (HEAD: reset)", weights)
        state = {key: value for key, value in state.items() if key not in classifier_keys(backbone)}
    fit = functools.partial(
        load_into, backbone, source=str(weights), head=head, classifier_keys=classifier_keys(backbone)
    )
    try:
        reset = fit(state)
    except ModelError as error:
        adapted = adapt_to_timm(backbone, state)
        try:
            reset = fit(adapted or {})
        except HeadMismatchError:
            raise
        except ModelError:
            raise error from None  # about the file as it is
        log.info("%s: adapted by timm to this network (an older layout, or another input size)", weights)
    if names is not None and not reset:
        order = output_order(names, classes, weights)
        if order is not None:
            reorder_classifier(backbone, order, weights)
    return own_statistics(metadata, weights), bool(reset)


def choose_statistics(
    norm: str | Sequence[Sequence[float]], found: Statistics | None, data: Statistics | None, name: str, weights: str
) -> Statistics:
    """What a network's input is normalised with: what was asked for, or what was found with its weights, or the data set's.

    Raises:
        ModelError: nothing says it, or no such statistics.
    """
    if not isinstance(norm, str):
        given = as_statistics(norm)
        if given is None:
            raise ModelError(f"NORM of {name}: expects [[mean x 3], [std x 3]] with positive std, got {norm!r}")
        return given
    if norm in NORMS:
        return NORMS[norm]
    if norm == "dataset":
        return data or IDENTITY
    if norm != "auto":
        choices = ("auto", "dataset", *NORMS)
        raise ModelError(f"NORM {norm!r} is none of {', '.join(choices)}{did_you_mean(norm, choices)}")
    if found is not None:
        return found
    if weights:
        raise UnknownStatisticsError(
            f"{weights} does not say how its inputs were normalised; set NORM to dataset, imagenet, inception, none or "
            "[[mean], [std]]"
        )
    return data or IDENTITY
