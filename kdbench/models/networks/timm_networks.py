"""Any timm model as ``timm:<name>``, its published weights and its input statistics."""

from __future__ import annotations

import difflib
import functools
import logging
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdbench.errors import ModelError, UnknownNameError
from kdbench.logs import at_level
from kdbench.models.backbone.classifier import classifier_keys
from kdbench.models.networks.timm_encoders import with_classifier
from kdbench.models.registry import ModelEntry
from kdbench.models.spec import Statistics

log = logging.getLogger(__name__)
_VIT = (
    *("vision_transformer", "beit", "cait", "coat", "crossvit", "davit", "deit", "eva", "focalnet", "gcvit", "hiera"),
    *(
        "levit",
        "maxxvit",
        "mvitv2",
        "nest",
        "pit",
        "pvt_v2",
        "swin_transformer",
        "tnt",
        "tresnet",
        "twins",
        "visformer",
    ),
    *("vitamin", "volo", "xcit", "naflexvit", "swiftformer", "rdnet", "efficientvit_msra", "mobilevit", "shvit"),
    *("tiny_vit", "gemma4_vit", "qwen3_vit", "deepseek_vit"),
)
_MLP = ("mlp_mixer", "sequencer")
_HYBRID = (
    *("fastvit", "coatnet", "edgenext", "efficientformer", "efficientformer_v2", "efficientvit_mit", "repvit"),
    "metaformer",
)


def timm_entry(name: str) -> ModelEntry:
    """The entry for a timm model name (with or without a pretrained tag after a dot).

    Raises:
        UnknownNameError: timm has no such model; the message lists the nearest names.
    """
    import timm

    bare, _, tag = name.partition(".")
    if not timm.is_model(bare):
        near = difflib.get_close_matches(bare, timm.list_models(), n=3, cutoff=0.5)
        close = ", ".join(repr(f"timm:{n}") for n in near)
        hint = f"did you mean {close}?" if near else "timm.list_models() shows them all"
        raise UnknownNameError(f"unknown model 'timm:{name}'; {hint}")
    if tag and tag not in _tags(bare):
        raise UnknownNameError(f"unknown tag {tag!r} of timm model {bare!r}; it has {', '.join(_tags(bare)) or 'none'}")
    config = timm.models.get_pretrained_cfg(name)
    size = config.input_size[-1] if config else 224
    fixed = bool(config and config.fixed_input_size)
    module = timm.models._registry._model_to_module[bare]  # timm has no public function for this
    return ModelEntry(
        name=f"timm:{name}",
        build=functools.partial(create_timm, name),
        family=_family(module),
        # Plain convolutions take any size, so that all of them start from the tables' 224.
        input_size=size if fixed or _family(module) != "cnn" else max(min(size, 224), _least(config)),
        any_size=not fixed,
        size_option="img_size" if fixed else "",
        tag=f"timm {name}" if tag or not (config and config.tag) else f"timm {name}.{config.tag}",
        headless=bool(config and config.num_classes == 0),
    )


def list_timm(pattern: str = "*") -> list[str]:
    """``timm:<name>`` for the names that fit a wildcard."""
    import timm

    return [f"timm:{name}" for name in timm.list_models(pattern or "*")]


def load_pretrained(
    backbone: nn.Module, entry: ModelEntry, num_classes: int, options: Mapping[str, Any]
) -> tuple[Statistics, bool]:
    """Load the tag's published weights, as timm's own loader adapts them to the network's options (position embeddings
    to another input size, say); a classifier of another width, or a missing one, leaves the network's as it is.

    Returns:
        The statistics of the weights' inputs, and whether the classifier was left out.

    Raises:
        ModelError: the name has no published weights, or they cannot be fetched.
    """
    from huggingface_hub.errors import HfHubHTTPError

    config: Any = getattr(backbone, "pretrained_cfg", None)
    if not config or not any(config.get(key) for key in ("url", "hf_hub_id", "file")):
        raise ModelError(f"{entry.name} has no published weights; leave WEIGHTS empty or name a file")
    log.info(
        "loading the published weights of %s (where the hub cannot be reached, it is tried for a minute)", entry.name
    )
    try:
        with at_level("huggingface_hub", logging.CRITICAL):  # a line for each of its retries
            source = entry.build(num_classes=num_classes, pretrained=True, **options)
    except (OSError, RuntimeError, ValueError, HfHubHTTPError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"the published weights of {entry.name} cannot be fetched ({reason}); download them and name the file"
        ) from None
    fresh = config["num_classes"] != num_classes
    left_out = set(classifier_keys(backbone)) if fresh else set()
    own = backbone.state_dict()
    own.update({key: value for key, value in source.state_dict().items() if key not in left_out})
    backbone.load_state_dict(own)
    return (tuple(config["mean"]), tuple(config["std"])), fresh


def adapt_to_timm(backbone: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """``state`` after the filter through which timm passes published files of this architecture: keys of older releases
    and of the authors' own repositories become today's, position embeddings are resampled to the network's input size.

    Returns:
        The filtered state dict, or None where timm has no filter for the network or it cannot read this file.
    """
    convert = getattr(sys.modules.get(type(backbone).__module__), "checkpoint_filter_fn", None)
    if convert is None or not type(backbone).__module__.startswith("timm."):
        return None
    try:
        found = convert(dict(state), backbone)
    except Exception as error:  # noqa: BLE001 - a file of another network makes the filter fail in any way
        log.debug("timm's filter: %s", error)
        return None
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def create_timm(timm_name: str, img_size: int = 0, *, num_classes: int, **options: Any) -> nn.Module:
    """timm's network, with a classifier where it has none; ``img_size`` is its input size where it needs one."""
    import timm

    if img_size:
        options.setdefault("img_size", img_size)
    return with_classifier(timm.create_model(timm_name, num_classes=num_classes, **options), num_classes)


def _least(config: Any) -> int:
    least = getattr(config, "min_input_size", None)
    return least[-1] if least else 0


def _family(module: str) -> str:
    if module in _MLP:
        return "mlp"
    return "vit" if module.startswith(_VIT) else "hybrid" if module in _HYBRID else "cnn"


def _tags(bare: str) -> list[str]:
    from timm.models import list_pretrained

    return [name.partition(".")[2] for name in list_pretrained(f"{bare}.*")]
