"""Names to networks: ``create_model`` and the built-in entries."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from kdbench.errors import ModelError, UnknownNameError, did_you_mean
from kdbench.models.feature_model.model import FeatureModel, Statistics
from kdbench.models.networks import small
from kdbench.models.networks.cifar import CIFAR_MODELS
from kdbench.models.networks.paper_names import LARGE_IMAGE, SHARED
from kdbench.models.networks.paper_networks import register_paper_models
from kdbench.models.registry import ModelEntry, models, register_model
from kdbench.models.weights.load import choose_statistics, load_weights
from kdbench.random import forked_seed

register_model("small_cnn", family="cnn", input_size=8)(small.small_cnn)
register_model("small_vit", family="vit", input_size=8, any_size=False, size_option="img_size")(small.small_vit)
register_model("small_mixer", family="mlp", input_size=8, any_size=False, size_option="img_size")(small.small_mixer)

for _name, _build_cifar in CIFAR_MODELS.items():
    _about = f"mdistiller's {_name} for 32x32 images"
    if _name in SHARED:
        _about += f"; from {LARGE_IMAGE} pixels on the name means {SHARED[_name]}"
    register_model(_name, family="cnn", about=_about, large=SHARED.get(_name, ""))(_build_cifar)

register_paper_models()


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
    side = input_size or _own_side(entry, data_size)
    if entry.size_option and side != entry.input_size:
        options.setdefault(entry.size_option, side)
    backbone = _build(entry, num_classes, options, seed)
    found, fresh_head = load_weights(backbone, entry, weights, head, ema, num_classes, options, classes)
    chosen = choose_statistics(norm, found, data_statistics, entry.name, weights)
    model = FeatureModel(
        backbone,
        name=entry.name,
        family=entry.family,
        num_classes=num_classes,
        input_size=(side, side),
        statistics=chosen,
        stages=stages,
    )
    model.fresh_head = fresh_head
    return model


def default_side(name: str, data_size: int) -> int:
    """Side of the image that a network is fed with where no ``input_size`` is named.

    Raises:
        UnknownNameError: no such model.
    """
    return _own_side(find_entry(name, data_size), data_size)


def _own_side(entry: ModelEntry, data_size: int) -> int:
    return data_size if entry.any_size and data_size else entry.input_size


def list_models(pattern: str = "*") -> list[str]:
    """Registered names that fit a wildcard; ``timm:...`` and ``torchvision:...`` patterns list those projects' names."""
    prefix, _, rest = pattern.partition(":")
    if prefix == "timm":
        from kdbench.models.networks.timm_networks import list_timm

        return list_timm(rest)
    if prefix == "torchvision":
        from kdbench.models.networks.torchvision_networks import list_torchvision

        return list_torchvision(rest)
    return models.names(pattern)


def find_entry(name: str, side: int = 0) -> ModelEntry:
    """The entry of a name, with or without prefix; ``side`` (0: unknown) tells apart what a shared name means.

    Raises:
        UnknownNameError: nothing has that name.
    """
    prefix, colon, rest = name.partition(":")
    if colon and prefix == "timm":
        from kdbench.models.networks.timm_networks import timm_entry

        return timm_entry(rest)
    if colon and prefix == "torchvision":
        from kdbench.models.networks.torchvision_networks import torchvision_entry

        return torchvision_entry(rest)
    if colon and prefix == "cifar":
        known = {cifar.lower(): cifar for cifar in CIFAR_MODELS}
        if rest.lower() not in known:
            near = did_you_mean(rest, CIFAR_MODELS)
            raise UnknownNameError(f"unknown model 'cifar:{rest}'{near}; there are {', '.join(CIFAR_MODELS)}")
        return models.get(rest)
    entry = models.get(name)
    return models.get(entry.large) if entry.large and side >= LARGE_IMAGE else entry


def canonical_name(name: str) -> str:
    """``name`` as it was registered, whatever the case of its letters; a name that is not registered stays as it is, and so do
    timm's and torchvision's, where case matters."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix == "cifar":
        return f"cifar:{models.canonical(rest)}" if rest in models else name
    return models.canonical(name) if name in models else name


def _build(entry: ModelEntry, num_classes: int, options: dict[str, Any], seed: int | None) -> nn.Module:
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
    except (TypeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"model {entry.name!r} cannot be built with {options}: {reason}") from None
