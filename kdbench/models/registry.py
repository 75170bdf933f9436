"""The registry of models: names to builders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdbench import registry
from kdbench.domains import as_statistics
from kdbench.errors import ModelError
from kdbench.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from kdbench.models.spec import Statistics


@dataclass(frozen=True)
class ModelEntry:
    """How a named network is built.

    Attributes:
        name: registered name.
        build: ``build(num_classes=..., **options)``: a network, see :func:`register_model`.
        family: ``cnn``, ``vit``, ``mlp`` or ``hybrid``.
        input_size: the size that it was designed for.
        any_size: it takes images of other sizes as they come; otherwise the wrapper resizes.
        size_option: the builder's keyword for another input size (``img_size`` of a ViT), or empty.
        tag: the timm or torchvision tag behind the name, empty for this project's own networks.
        about: one line.
        large: name of the network that papers call by the same name, taken instead for images of 64 pixels and more.
        headless: the published weights hold no classifier.
        revision: tells runs of this network from those of another one that had the name before.
        stages, classifier, prefix_tokens: see :func:`register_model`.
        statistics: of its input; None where the weights or the data set say them.
        own_weights: SHA-256 of the weights that the builder's network holds; empty for fresh ones.
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
    stages: tuple[str, ...] | None = None
    classifier: str = ""
    prefix_tokens: int = 0
    statistics: Statistics | None = None
    own_weights: str = ""


models: Registry[ModelEntry] = registry.models
#: networks that are handed over as objects, by what follows ``given:`` in their names, while they are needed
GIVEN: dict[str, ModelEntry] = {}


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
    stages: Sequence[str] | None = None,
    classifier: str = "",
    prefix_tokens: int = 0,
    statistics: Statistics | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: register a builder ``fn(num_classes, **options)`` under ``name``.

    The builder returns any module that maps images to (B, K) logits, or what :func:`kdbench.wrap_model` made of one. A module with
    timm's feature interface (``forward_features``, ``forward_head``, ``forward_intermediates``, ``feature_info``), for instance
    by deriving from :class:`kdbench.models.backbone.staged.StagedBackbone`, is taken as it is; any other is read by hooks.

    Args:
        name: what configurations call it.
        family: ``cnn``, ``vit``, ``mlp`` or ``hybrid``.
        input_size: side that it was designed for.
        any_size: it takes images of other sizes as they come; otherwise they are resized.
        size_option: the builder's keyword for another input size, or empty.
        tag: of kdbench's own networks; so are the next two.
        large: see above.
        headless: see above.
        about: one line for lists; the first of the builder's docstring by default.
        stages: names of the submodules whose outputs are the stages, shallow to deep; None finds them.
        classifier: name of the submodule that gives the logits; empty finds it.
        prefix_tokens: tokens in front of those of a grid, where stages are tokens.
        statistics: ``(mean, std)`` of its input; None takes those of its weights, or the data set's.

    Raises:
        ModelError: an unknown family, or statistics that are none.
    """
    if family not in ("cnn", "vit", "mlp", "hybrid"):
        raise ModelError(f"model {name!r}: family is cnn, vit, mlp or hybrid, not {family!r}")

    if statistics is not None and as_statistics(statistics) is None:
        raise ModelError(
            f"model {name!r}: statistics are ((mean x 3), (std x 3)) with positive std, not {statistics!r:.80}"
        )
    if isinstance(stages, str):
        raise ModelError(f"model {name!r}: stages are a list of names of submodules, got {stages!r}")
    named = None if stages is None else tuple(stages)

    def decorate(build: Callable[..., Any]) -> Callable[..., Any]:
        doc = about or (build.__doc__ or "").strip().split("\n")[0]
        entry = ModelEntry(
            name,
            build,
            family,
            input_size,
            any_size,
            size_option,
            tag,
            doc,
            large,
            headless,
            stages=named,
            classifier=classifier,
            prefix_tokens=prefix_tokens,
            statistics=as_statistics(statistics) if statistics is not None else None,
        )
        models.add(name, entry)
        return build

    return decorate
