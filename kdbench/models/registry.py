"""The registry of models: names to builders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdbench import registry
from kdbench.errors import ModelError
from kdbench.registry import Registry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelEntry:
    """How a named network is built.

    Attributes:
        name: registered name.
        build: ``build(num_classes=..., **options) -> backbone`` with timm's feature interface.
        family: ``cnn``, ``vit``, ``mlp`` or ``hybrid``.
        input_size: the size that it was designed for.
        any_size: it takes images of other sizes as they come; otherwise the wrapper resizes.
        size_option: the builder's keyword for another input size (``img_size`` of a ViT), or empty.
        tag: the timm or torchvision tag behind the name, empty for this project's own networks.
        about: one line.
        large: name of the network that papers call by the same name, taken instead for images of 64 pixels and more.
        headless: the published weights hold no classifier.
        revision: tells runs of this network from those of another one that had the name before.
    """

    name: str
    build: Callable[..., nn.Module]
    family: str
    input_size: int
    any_size: bool = True
    size_option: str = ""
    tag: str = ""
    about: str = ""
    large: str = ""
    headless: bool = False
    revision: str = ""


models: Registry[ModelEntry] = registry.models


def register_model(
    name: str,
    *,
    family: str,
    input_size: int = 32,
    any_size: bool = True,
    size_option: str = "",
    tag: str = "",
    about: str = "",
    large: str = "",
    headless: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: register a builder ``fn(num_classes, **options) -> nn.Module`` under ``name``.

    The module speaks timm's feature interface (``forward_features``, ``forward_head``, ``forward_intermediates``,
    ``feature_info``), for instance by deriving from :class:`kdbench.models.backbone.staged.StagedBackbone`.

    Raises:
        ModelError: an unknown family.
    """
    if family not in ("cnn", "vit", "mlp", "hybrid"):
        raise ModelError(f"model {name!r}: family is cnn, vit, mlp or hybrid, not {family!r}")

    def decorate(build: Callable[..., Any]) -> Callable[..., Any]:
        doc = about or (build.__doc__ or "").strip().split("\n")[0]
        entry = ModelEntry(name, build, family, input_size, any_size, size_option, tag, doc, large, headless)
        models.add(name, entry)
        return build

    return decorate
