"""``kdbench.wrap_model``, and what a registered builder returned as a network behind one face."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from kdbench.errors import ModelError, did_you_mean
from kdbench.models.backbone.channels import input_channels
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.registry import ModelEntry
from kdbench.models.spec import IDENTITY, Statistics
from kdbench.models.wrapped.hooked import HookedBackbone
from kdbench.models.wrapped.probe import Trace, find_classifier, find_stages, nearest_maps, trace

log = logging.getLogger(__name__)
_FACE = ("forward_features", "forward_head")
_MOST_STAGES = 4


def wrap_model(
    module: nn.Module,
    *,
    num_classes: int,
    input_size: int | tuple[int, int],
    stages: Sequence[str] | None = None,
    classifier: str = "",
    statistics: Statistics = IDENTITY,
    family: str = "cnn",
    name: str = "",
    prefix_tokens: int = 0,
) -> FeatureModel:
    """A :class:`FeatureModel` around any network that maps (B, 3, H, W) or (B, 1, H, W) images to (B, K) logits.

    Hooks on submodules read the maps; the network is not changed and its state dict keeps its keys. What needs more than that
    (class activation maps, region logits, running stage by stage) is not given. Stages and classifier that are not named are
    found in one pass over a black image, and a message names them.

    Args:
        module: the network.
        num_classes: K.
        input_size: side, or (h, w), that the network is fed with.
        stages: names of submodules whose outputs are the stages, shallow to deep: (B, C, H, W) or (B, H, W, C) maps, or
            (B, P + L, C) tokens of a square grid. Of more than four the last four are taken. None finds them; an empty list means
            none.
        classifier: name of the last submodule; its (B, D) input is the penultimate vector, its output the logits. Empty finds it.
        statistics: ``(mean, std)`` of its input.
        family: ``cnn``, ``vit``, ``mlp`` or ``hybrid``.
        name: for messages; the class's by default.
        prefix_tokens: P of token stages.

    Raises:
        ModelError: a submodule that does not exist, is not called, or gives no map; no classifier, or several that may be it;
            logits of another width.
    """
    side = (input_size, input_size) if isinstance(input_size, int) else input_size
    backbone = hooked(
        module,
        name or type(module).__name__,
        num_classes=num_classes,
        size=side,
        stages=stages,
        classifier=classifier,
        prefix_tokens=prefix_tokens,
    )
    return FeatureModel(
        backbone,
        name=backbone.title,
        family=family,
        num_classes=num_classes,
        input_size=side,
        statistics=statistics,
        stages=own_stages(backbone) or "auto",
    )


def own_stages(backbone: nn.Module) -> list[int]:
    """The stages of a hooked network as indices: all that were named or found, the last four of more."""
    count = len(backbone.stage_names) if isinstance(backbone, HookedBackbone) else 0
    return list(range(count))[-_MOST_STAGES:]


@dataclass(frozen=True)
class Built:
    """What a builder gave: a network with timm's feature interface, and what is known of it.

    Attributes:
        backbone: the network.
        input_size: (h, w) that it is fed with.
        statistics: of its input; None where nothing says them.
        stages: its stages as indices; empty where they are chosen as of any network.
        fresh_head: it holds weights, but no classifier among them.
    """

    backbone: nn.Module
    input_size: tuple[int, int]
    statistics: Statistics | None = None
    stages: tuple[int, ...] = ()
    fresh_head: bool = False


def as_built(made: Any, entry: ModelEntry, *, num_classes: int, size: int, fixed: bool) -> Built:
    """A builder's network behind timm's feature interface: as it is where it has that, by hooks where it is any other module, and
    out of the :class:`FeatureModel` that it may have been wrapped in already.

    Args:
        made: what the builder returned.
        entry: of the registry.
        num_classes: K.
        size: side that it is fed with.
        fixed: that side was asked for, so that it goes before the one of a :class:`FeatureModel`.

    Raises:
        ModelError: it is no module, knows another number of classes, or cannot be wrapped; see :func:`wrap_model`.
    """
    title, named = entry.name, entry.stages is not None or bool(entry.classifier)
    if isinstance(made, FeatureModel):
        if named:
            raise ModelError(f"model {title!r} is a FeatureModel already; name its stages and classifier in wrap_model")
        if made.spec.num_classes != num_classes:
            raise ModelError(f"model {title!r} is built for {made.spec.num_classes} classes, not {num_classes}")
        chosen = tuple(int(stage.name) for stage in made.spec.stages)
        side = (size, size) if fixed else made.input_size
        statistics = made.statistics if entry.statistics is None else entry.statistics
        return Built(made.backbone, side, statistics, chosen, made.fresh_head)
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"model {title!r}: its builder returns a {type(made).__name__}, expects a module or a FeatureModel"
        )
    if not named and all(hasattr(made, word) for word in _FACE):
        return Built(made, (size, size), entry.statistics)
    backbone = hooked(
        made,
        title,
        num_classes=num_classes,
        size=(size, size),
        stages=entry.stages,
        classifier=entry.classifier,
        prefix_tokens=entry.prefix_tokens,
    )
    return Built(backbone, (size, size), entry.statistics, tuple(own_stages(backbone)))


def hooked(
    module: nn.Module,
    name: str,
    *,
    num_classes: int,
    size: tuple[int, int],
    stages: Sequence[str] | None,
    classifier: str,
    prefix_tokens: int,
) -> HookedBackbone:
    """A network with hooks on its stages and its classifier; see :func:`wrap_model`."""
    if isinstance(stages, str):
        raise ModelError(f"{name}: stages are a list of names of submodules, got {stages!r}")
    known = [key for key, _ in module.named_modules() if key]
    for wanted in (*(stages or ()), *filter(None, (classifier,))):
        if wanted not in known:
            near = did_you_mean(wanted, known)
            raise ModelError(f"{name} has no submodule {wanted!r}{near or f'; it has {_first(known)}'}")
    if next(module.parameters(), None) is None:
        raise ModelError(f"{name} has no parameters: nothing of it could be trained")
    found = trace(module, size, input_channels(module), name)
    chosen = list(stages) if stages is not None else []
    if not classifier:
        classifier = find_classifier(found, num_classes, name)
    if stages is None:
        chosen, prefix_tokens = find_stages(found, size, prefix_tokens)
    else:
        _check_shapes(found, chosen, name)
    backbone = HookedBackbone(module, chosen, classifier, name, prefix_tokens)
    backbone.measure(size, num_classes)
    if stages is None and next(module.parameters()).device.type != "meta":
        told = ", ".join(chosen) if chosen else "none (methods on feature maps are not for it)"
        log.info("%s: stages found: %s; classifier: %s", name, told, classifier)
    elif len(chosen) > _MOST_STAGES:
        log.info("%s: of %d stages the last four are taken", name, len(chosen))
    return backbone


def _check_shapes(found: Trace, stages: Sequence[str], name: str) -> None:
    """Refuse stages whose output is no tensor."""
    shapes = {call.name: call.shape for call in found.calls}
    for stage in stages:
        if shapes.get(stage) == ():
            near = nearest_maps(found, stage)
            where = f"; within it {', '.join(near)} give tensors" if near else ""
            raise ModelError(f"{name}: stage {stage} gives a tuple or a mapping, expects a map or tokens{where}")


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "none"
