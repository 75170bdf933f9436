"""``create_model``: a name, weights and statistics to a network."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from kdbench.errors import KdbenchError, ModelError, did_you_mean, shown
from kdbench.models.feature_model.adapted import adapt
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.names import find_entry, own_side
from kdbench.models.registry import ModelEntry
from kdbench.models.spec import Statistics
from kdbench.models.weights.export import read_metadata
from kdbench.models.weights.load import choose_statistics, load_weights
from kdbench.models.wrapped.wrap import as_built
from kdbench.random import forked_seed


def create_model(
    name: str,
    *,
    num_classes: int,
    weights: str = "",
    input_size: int = 0,
    data_size: int = 0,
    norm: str | Sequence[Sequence[float]] = "auto",
    data_statistics: Statistics | None = None,
    stages: str | Sequence[int] = "auto",
    head: str = "strict",
    ema: bool = False,
    seed: int | None = None,
    classes: Sequence[str] = (),
    **options: Any,
) -> FeatureModel:
    """Build a network by name.

    Args:
        name: a registered name, ``timm:<any timm name>``, ``torchvision:<name>`` or ``cifar:<mdistiller's name>``. Of
            the names that papers share with mdistiller's 32x32 networks (ResNet18, ResNet50, MobileNetV2) the plain one
            means the paper's network where ``input_size``, or else ``data_size``, is at least 64.
        num_classes: K.
        weights: empty, ``"pretrained"``, or a file.
        input_size: side of the image that the backbone is fed with; 0 = what a file of timm's ``train.py`` says in ``weights``,
            else ``data_size`` where the network takes any size, else its own.
        data_size: side of the data set's images.
        norm: ``auto`` (our or timm's ``train.py`` checkpoint's, else the pretrained tag's, else the data set's), ``dataset``,
            ``none``, ``imagenet``, ``inception``, or ``[mean, std]``.
        data_statistics: ``(mean, std)`` of the data set, for ``auto`` and ``dataset``.
        stages: ``auto``, ``ofakd`` or indices.
        head: ``strict``, or ``reset`` to drop a classifier of another width from a weights file.
        ema: take the moving average of the weights from a file that holds both.
        seed: initial weights depend on (seed, name) alone; None leaves them to the global generator.
        classes: names of the data set's classes; the outputs of a file that names its own are brought into their order.
        **options: handed to the builder.

    Raises:
        UnknownNameError: no such model.
        ModelError: an option, a size or weights that the network does not take.
    """
    if weights not in ("", "pretrained") and (norm == "auto" or not input_size):
        from kdbench.models.weights.read import read_recorded

        stored = read_recorded(weights)
        input_size = input_size or stored.input_size
        norm = stored.statistics if norm == "auto" and stored.statistics is not None else norm
    entry = find_entry(name, input_size or data_size)
    side = input_size or own_side(entry, data_size)
    if entry.size_option and side != entry.input_size:
        options.setdefault(entry.size_option, side)
    made = _build(entry, num_classes, options, seed)
    built = as_built(made, entry, num_classes=num_classes, size=side, fixed=bool(input_size))
    backbone = built.backbone
    face: dict[str, Any] = {
        "name": entry.name,
        "family": entry.family,
        "num_classes": num_classes,
        "input_size": built.input_size,
        "stages": built.stages if stages == "auto" and built.stages else stages,
    }
    adapter = read_metadata(weights).get("adapter") if weights not in ("", "pretrained") else None
    if adapter:  # a student that its method has changed
        backbone = adapt(FeatureModel(backbone, **face), adapter).backbone
    found, fresh_head = load_weights(backbone, entry, weights, head, ema, num_classes, options, classes)
    if found is None:
        found = built.statistics
    chosen = choose_statistics(norm, found, data_statistics, entry.name, weights)
    model = FeatureModel(backbone, statistics=chosen, **face)
    model.adapter = adapter or {}
    model.fresh_head = fresh_head or (built.fresh_head and not weights)
    return model


def _build(entry: ModelEntry, num_classes: int, options: dict[str, Any], seed: int | None) -> Any:
    signature = inspect.signature(entry.build)
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        for option in options:
            if option not in signature.parameters:
                near = did_you_mean(option, signature.parameters)
                raise ModelError(f"model {entry.name!r} has no option {option!r}{near}")
    try:
        if seed is None:
            return entry.build(num_classes=num_classes, **options)
        with forked_seed("student", seed, entry.name):
            return entry.build(num_classes=num_classes, **options)
    except KdbenchError:
        raise
    except Exception as error:  # a builder fails in any way: by a division by zero, an index, memory
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise ModelError(f"model {entry.name!r} cannot be built with {shown(options)}: {reason}") from error
