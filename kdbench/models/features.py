"""FeatureModel: one face for every architecture.

Any backbone that speaks timm's feature interface (``forward_features``, ``forward_intermediates``, ``forward_head``) is
wrapped, never patched. One forward pass gives all that was asked for and computes nothing that was not.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.probe import HeadKind, probe_head, run_shapes
from kdbench.models.spec import ModelOutput, ModelSpec, StageSpec
from kdbench.models.stages import FINAL, choose_stages

Statistics = tuple[Sequence[float], Sequence[float]]
IDENTITY: Statistics = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class FeatureModel(nn.Module):
    """A backbone with its input statistics, its input size and its choice of stages.

    ``model(images, need={"stages"})`` takes images in [0, 1], resizes and normalises them as *this* network wants, and
    returns a :class:`ModelOutput`. ``model.spec`` tells the shapes; ``model.backbone`` is the bare network, whose
    ``state_dict`` is what is loaded and exported.

    Args:
        backbone: a module with timm's feature interface.
        name: what the user called it.
        family: ``cnn``, ``vit``, ``mlp`` or ``hybrid``.
        num_classes: K.
        input_size: (h, w) that the backbone is fed with; other images are resized (bilinear, antialiased).
        statistics: ``(mean, std)`` of the input, three numbers each.
        stages: ``"auto"``, ``"ofakd"`` or indices of timm's intermediates (-1: the final feature map).

    Raises:
        ModelError: the backbone has not the asked stages, or the image is too small for it.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        name: str,
        family: str,
        num_classes: int,
        input_size: tuple[int, int],
        statistics: Statistics = IDENTITY,
        stages: str | Sequence[int] = "auto",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_size = input_size
        self._register_statistics(statistics)
        self._stage_indices = choose_stages(backbone, name, stages)
        # Not every class of timm knows the keyword, and a ViT without prefix tokens returns no tuple for it.
        signature = inspect.signature(backbone.forward_intermediates).parameters if self._stage_indices else {}
        prefix_tokens = int(getattr(backbone, "num_prefix_tokens", 0) or 0)
        self._prefix_tokens = prefix_tokens if "return_prefix_tokens" in signature else 0
        self._classifier_names = tuple(_classifier_names(backbone))
        self.spec = self._probe(name, family, num_classes)

    def _register_statistics(self, statistics: Statistics) -> None:
        mean, std = (tuple(map(float, values)) for values in statistics)
        self.statistics: Statistics = (mean, std)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self._identity = (mean, std) == IDENTITY

    def prepare(self, images: Tensor) -> Tensor:
        """Resize and normalise: (B, 3, H, W) in [0, 1] -> the backbone's own input."""
        if tuple(images.shape[-2:]) != self.input_size:
            images = F.interpolate(images, self.input_size, mode="bilinear", align_corners=False, antialias=True)
        if self._identity:
            return images
        return torch.sub(images, self.mean).div_(self.std)

    def forward(self, images: Tensor, need: Iterable[str] = ()) -> ModelOutput:
        """One pass over (B, 3, H, W) images in [0, 1].

        Args:
            images: un-normalised float images of any size.
            need: output kinds besides logits and penultimate.

        Raises:
            ModelError: an output that this network does not give.
        """
        wanted = set(need)
        missing = wanted - self.spec.provides
        if missing:
            raise ModelError(f"{self.spec.name} gives no {', '.join(sorted(missing))}")
        x = self.prepare(images)
        maps: tuple[Tensor, ...] | None = None
        prefix: tuple[Tensor, ...] | None = None
        if wanted & {"stages", "prefix"}:
            features, maps, prefix = self._features_and_stages(x, "prefix" in wanted)
        else:
            features = self.backbone.forward_features(x)  # type: ignore[operator]
        penultimate, logits = self._classify(features)
        return ModelOutput(logits, penultimate, stages=maps if "stages" in wanted else None, prefix=prefix)

    def _features_and_stages(self, x: Tensor, want_prefix: bool) -> tuple[Tensor, tuple[Tensor, ...], Any]:
        own = [i for i in self._stage_indices if i != FINAL]
        extra = {"return_prefix_tokens": True} if want_prefix and self._prefix_tokens else {}
        features, found = self.backbone.forward_intermediates(x, indices=own, **extra)  # type: ignore[operator]
        pairs = [item if isinstance(item, (tuple, list)) else (item, None) for item in found]
        by_index = {index: pair for index, pair in zip(sorted(set(own)), pairs)}
        by_index[FINAL] = (features, None)
        chosen = [by_index[i] for i in self._stage_indices]
        maps = tuple(item[0] for item in chosen)
        if not want_prefix:
            return features, maps, None
        none = [m.new_zeros(m.shape[0], 0, m.shape[1]) for m in maps]
        return features, maps, tuple(item[1] if item[1] is not None else empty for item, empty in zip(chosen, none))

    def _classify(self, features: Tensor) -> tuple[Tensor, Tensor]:
        penultimate = self.backbone.forward_head(features, pre_logits=True)  # type: ignore[operator]
        classifier = self._plain_classifier()
        if classifier is None:  # several heads, or something after the last linear layer: let the backbone do it
            return penultimate, self.backbone.forward_head(features)  # type: ignore[operator]
        return penultimate, classifier(penultimate)

    def _plain_classifier(self) -> nn.Module | None:
        if len(self._classifier_names) != 1 or self._head_kind is HeadKind.COMPOSITE:
            return None
        return self.backbone.get_submodule(self._classifier_names[0])

    _head_kind = HeadKind.COMPOSITE

    def _probe(self, name: str, family: str, num_classes: int) -> ModelSpec:
        indices = [i for i in self._stage_indices if i != FINAL]
        shapes = run_shapes(self.backbone, self.input_size, indices, name)
        self._head_kind = probe_head(self.backbone, shapes, self._classifier_names)
        by_index = dict(zip(sorted(set(indices)), shapes.maps))
        by_index[FINAL] = shapes.features
        stages = tuple(
            StageSpec(by_index[i][1], (by_index[i][2], by_index[i][3]), self._prefix_tokens, str(i))
            for i in self._stage_indices
        )
        provides = {"logits", "penultimate"} | ({"stages", "prefix"} if stages else set())
        return ModelSpec(
            name=name,
            family=family,
            num_classes=num_classes,
            penultimate=shapes.penultimate[1],
            input_size=self.input_size,
            stages=stages,
            provides=frozenset(provides),
            token_features=len(shapes.features) == 3 or bool(self._prefix_tokens) or _channels_last(shapes.features),
            params=sum(p.numel() for p in self.backbone.parameters()),
            head=self._head_kind.value,
        )


def _channels_last(shape: Sequence[int]) -> bool:
    return len(shape) == 4 and shape[1] == shape[2] != shape[3]


def _classifier_names(backbone: nn.Module) -> list[str]:
    """Module names of the classifier(s): timm's distilled models have two."""
    getter = getattr(backbone, "get_classifier", None)
    if getter is None:
        return []
    found = getter()
    wanted = list(found) if isinstance(found, (tuple, list)) else [found]
    names = {id(module): name for name, module in backbone.named_modules() if name}
    return [names[id(module)] for module in wanted if id(module) in names]


def classifier_keys(backbone: nn.Module) -> list[str]:
    """State-dict keys of the classifier(s), for loading a backbone under a head of another width."""
    return [f"{n}.{key}" for n in _classifier_names(backbone) for key in backbone.get_submodule(n).state_dict()]
