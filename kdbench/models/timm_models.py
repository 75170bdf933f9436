"""Any timm model as ``timm:<name>``, its published weights and its input statistics."""

from __future__ import annotations

import difflib
import functools
from typing import Any

from torch import nn

from kdbench.errors import ModelError, UnknownNameError
from kdbench.models.features import Statistics
from kdbench.models.registry import ModelEntry

_VIT = ["vision_transformer", "beit", "cait", "coat", "crossvit", "davit", "deit", "eva", "focalnet", "gcvit", "hiera", "levit", "maxxvit", "mvitv2", "nest", "pit", "pvt_v2", "swin_transformer", "tnt", "tresnet", "twins", "vision_transformer_hybrid", "vision_transformer_relpos", "vision_transformer_sam", "visformer", "vitamin", "volo", "xcit", "naflexvit", "swiftformer", "rdnet", "efficientvit_msra", "mobilevit", "shvit", "tiny_vit"]
_MLP = ("mlp_mixer", "sequencer")
_HYBRID = ("fastvit", "coatnet", "edgenext", "efficientformer", "efficientformer_v2", "efficientvit_mit", "repvit", "metaformer")


def timm_entry(name: str) -> ModelEntry:
    """The entry for a timm model name (with or without a pretrained tag after a dot).

    Raises:
        UnknownNameError: timm has no such model; the message lists the nearest names.
    """
    import timm

    bare, _, tag = name.partition(".")
    if not timm.is_model(bare):
        near = difflib.get_close_matches(bare, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(repr('timm:' + n) for n in near)}?" if near else "timm.list_models() shows them all"
        raise UnknownNameError(f"unknown model 'timm:{name}'; {hint}")
    if tag and tag not in _tags(bare):
        raise UnknownNameError(f"unknown tag {tag!r} of timm model {bare!r}; it has {', '.join(_tags(bare)) or 'none'}")
    config = timm.models.get_pretrained_cfg(name)
    size = config.input_size[-1] if config else 224
    fixed = bool(config and config.fixed_input_size)
    module = timm.models._registry._model_to_module[bare]  # timm has no public function for this
    return ModelEntry(
        name=f"timm:{name}",
        build=functools.partial(_create, name),
        family="mlp" if module in _MLP else "vit" if module.startswith(tuple(_VIT)) else "hybrid" if module in _HYBRID else "cnn",
        input_size=min(size, 224) if not fixed else size,
        any_size=not fixed,
        size_option="img_size" if fixed else "",
        tag=name,
        about=f"timm {name}",
    )


def list_timm(pattern: str = "*") -> list[str]:
    """``timm:<name>`` for the names that fit a wildcard."""
    import timm

    return [f"timm:{name}" for name in timm.list_models(pattern or "*")]


def load_pretrained(backbone: nn.Module, entry: ModelEntry, num_classes: int) -> Statistics:
    """Load the tag's published weights through timm's hub client; the classifier is dropped where the width differs.

    Raises:
        ModelError: the name has no published weights, or they cannot be fetched.
    """
    from timm.models._builder import load_pretrained as fetch

    config: Any = getattr(backbone, "pretrained_cfg", None)
    if not config or not (config.get("url") or config.get("hf_hub_id")):
        raise ModelError(f"{entry.name} has no published weights; leave WEIGHTS empty or name a file")
    try:
        fetch(backbone, pretrained_cfg=config, num_classes=num_classes)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"the published weights of {entry.name} cannot be fetched ({reason}); download them and name the file") from None
    return tuple(config["mean"]), tuple(config["std"])


def _tags(bare: str) -> list[str]:
    from timm.models import list_pretrained

    return [name.partition(".")[2] for name in list_pretrained(f"{bare}.*")]


def _create(timm_name: str, *, num_classes: int, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(timm_name, pretrained=False, num_classes=num_classes, **options)
