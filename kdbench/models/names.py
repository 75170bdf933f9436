"""Names of networks: the built-in ones, timm's and torchvision's, and what each stands for."""

from __future__ import annotations

from kdbench.errors import UnknownNameError, did_you_mean
from kdbench.models.networks import small
from kdbench.models.networks.cifar import CIFAR_MODELS
from kdbench.models.networks.mobilenetv2_tiny import MobileNetV2Tiny
from kdbench.models.networks.paper_names import LARGE_IMAGE, SHARED
from kdbench.models.networks.paper_networks import register_paper_models
from kdbench.models.registry import GIVEN, ModelEntry, models, register_model

register_model("small_cnn", family="cnn", input_size=8)(small.small_cnn)
register_model("small_vit", family="vit", input_size=8, any_size=False, size_option="img_size")(small.small_vit)
register_model("small_mixer", family="mlp", input_size=8, any_size=False, size_option="img_size")(small.small_mixer)
register_model("small_cnn28", family="cnn", input_size=28)(small.small_cnn28)
register_model("small_vit28", family="vit", input_size=28, any_size=False, size_option="img_size")(small.small_vit28)
register_model("small_mixer28", family="mlp", input_size=28, any_size=False, size_option="img_size")(
    small.small_mixer28
)

register_model(
    "mobilenetv2_tinyimagenet", family="cnn", input_size=64, about="mdistiller's MobileNetV2 for Tiny-ImageNet"
)(MobileNetV2Tiny)
for _name, _build_cifar in CIFAR_MODELS.items():
    _about = f"mdistiller's {_name} for 32x32 images"
    if _name in SHARED:
        _about += f"; from {LARGE_IMAGE} pixels on the name means {SHARED[_name]}"
    register_model(_name, family="cnn", about=_about, large=SHARED.get(_name, ""))(_build_cifar)

register_paper_models()


def default_side(name: str, data_size: int) -> int:
    """Side of the image that a network is fed with where no ``input_size`` is named.

    Raises:
        UnknownNameError: no such model.
    """
    return own_side(find_entry(name, data_size), data_size)


def own_side(entry: ModelEntry, data_size: int) -> int:
    """As :func:`default_side`, of an entry."""
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
    if colon and prefix == "given":
        if rest not in GIVEN:
            raise UnknownNameError(
                f"model {name!r} was handed over as an object (student=, teacher=), which is not there now; hand it over again"
            )
        return GIVEN[rest]
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
