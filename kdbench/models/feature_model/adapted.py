"""A backbone whose last map passes an adapter before it is pooled and classified, for methods that deploy such a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.backbone import tensor_layout as layout
from kdbench.models.backbone.intermediates import run_intermediates
from kdbench.models.backbone.pooling import adaptive_average
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.feature_model.shapes import run_shapes

_LARGEST = 1 << 20
_HALF = (torch.float16, torch.bfloat16)
_EPS = 1e-7
#: what the record of an adapter holds, by its kind
_KEYS = {"projector": {"width", "grid", "factor", "bias"}, "expansion": {"width", "scale"}}


class Projector(nn.Module):
    """SimKD's projector: three convolutions to another number of channels, behind a pooling to a grid that is not exceeded.

    Args:
        channels: of the map.
        width: of what comes out.
        grid: (h, w), the largest that comes out.
        factor: by which the middle is narrower than ``width``.
    """

    def __init__(self, channels: int, width: int, grid: Sequence[int], factor: int) -> None:
        super().__init__()
        middle = max(1, width // factor)
        self.grid = (int(grid[0]), int(grid[1]))
        layers: list[nn.Module] = []
        for before, after, side in ((channels, middle, 1), (middle, middle, 3), (middle, width, 1)):
            conv = nn.Conv2d(before, after, side, padding=side // 2, bias=False)
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
        self.transfer = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, h, w)."""
        if x.shape[2] > self.grid[0]:
            x = adaptive_average(x, self.grid)
        return self.transfer(x)


class Expansion(nn.Module):
    """NORM's feature transform: 1x1 convolutions to many channels and back, each with batch normalisation, beside an identity.

    Args:
        channels: of the map.
        width: of the wide one.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.collapse = nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.collapse(self.expand(x))


class AdaptedBackbone(nn.Module):
    """timm's feature interface around another backbone: its last map passes ``adapter``, is averaged and classified. The backbone's
    own classifier is taken out.

    Args:
        base: the backbone; it is changed.
        old: name of its classifier.
        adapter: (B, C, H, W) -> (B, D, h, w).
        classifier: of D features.
        place: layout, grid and prefix tokens of the base's features.
        scale: logits are standardised, each sample's, and multiplied by it; 0 leaves them as they are.
    """

    output_fmt = layout.NCHW

    def __init__(
        self,
        base: Any,
        old: str,
        adapter: nn.Module,
        classifier: nn.Linear,
        place: tuple[str, tuple[int, int], int],
        scale: float = 0.0,
    ) -> None:
        super().__init__()
        parent, _, name = old.rpartition(".")
        setattr(base.get_submodule(parent), name, nn.Identity())
        self.base, self.adapter, self.classifier, self._place = base, adapter, classifier, place
        self._scale = scale
        self.feature_info = base.feature_info if hasattr(base, "feature_info") else []
        self.num_classes, self.num_features = classifier.out_features, classifier.in_features

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the adapted map, (B, D, h, w)."""
        return self._adapt(self.base.forward_features(x))

    def with_expansion(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> the wide map of an :class:`Expansion`, and the adapted map."""
        last = self._last(self.base.forward_features(x))
        wide = self.adapter.expand(last)  # type: ignore[operator]
        return wide, last + self.adapter.collapse(wide)  # type: ignore[operator]

    def forward_intermediates(self, x: Tensor, indices: Sequence[int]) -> tuple[Tensor, list[Any]]:
        """The adapted map, and the base's own intermediates."""
        features, maps = run_intermediates(self.base, x, indices)
        return self._adapt(features), maps

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, D, h, w) -> (B, D) or (B, K)."""
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return x if pre_logits else self._scaled(self.classifier(x))

    def _scaled(self, logits: Tensor) -> Tensor:
        if not self._scale:
            return logits
        return self._scale * F.layer_norm(
            logits.float() if logits.dtype in _HALF else logits, logits.shape[1:], eps=_EPS
        )

    def get_classifier(self) -> nn.Linear:
        """The classifier."""
        return self.classifier

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        return self.forward_head(self.forward_features(x))

    def _adapt(self, features: Tensor) -> Tensor:
        return self.adapter(self._last(features))

    def _last(self, features: Tensor) -> Tensor:
        kind, grid, prefix = self._place
        return layout.to_map(features, kind, grid, prefix)[0]


def adapt(model: FeatureModel, record: Any) -> FeatureModel:
    """A network with an adapter behind its last map; the given one is used up.

    Args:
        model: its head averages over places, and ends in one linear layer.
        record: what the adapter is, plain values that an export keeps. ``kind`` is ``projector`` (:class:`Projector`, of ``width``,
            ``grid`` and ``factor``, then a fresh, frozen classifier, with a ``bias`` or not) or ``expansion`` (:class:`Expansion`
            to ``width``, then the network's own classifier, whose logits are standardised and multiplied by ``scale``).

    Raises:
        ModelError: a network that has no such map or is adapted already, or a record that makes no sense.
    """
    _check(record)
    if "region_maps" not in model.spec.provides or model.adapter:
        raise ModelError(f"{model.spec.name} cannot be adapted: {'it is already' if model.adapter else 'no last map'}")
    shape = run_shapes(model.backbone, model.input_size, [], model.spec.name).features
    place = model.feature_place
    channels = shape[1] if place[0] == layout.NCHW else shape[-1]
    classifier: Any = model.backbone.get_submodule(model.classifier_name)
    if record["kind"] == "projector":
        adapter: nn.Module = Projector(channels, record["width"], record["grid"], record["factor"])
        classifier = nn.Linear(record["width"], model.spec.num_classes, bias=record["bias"]).requires_grad_(False)
    else:
        adapter = Expansion(channels, record["width"])
    like = next(model.backbone.parameters())
    scale = float(record.get("scale", 0.0))
    backbone = AdaptedBackbone(
        model.backbone, model.classifier_name, adapter.to(like), classifier.to(like), place, scale
    )
    made = FeatureModel(
        backbone,
        name=model.spec.name,
        family=model.spec.family,
        num_classes=model.spec.num_classes,
        input_size=model.input_size,
        statistics=model.statistics,
        stages=[int(stage.name) for stage in model.spec.stages] or "auto",
    )
    made.adapter = dict(record)
    return made


def _check(record: Any) -> None:
    kind = record.get("kind") if isinstance(record, Mapping) else None
    if not isinstance(kind, str) or kind not in _KEYS or record.keys() != {"kind", *_KEYS[kind]}:
        raise ModelError(f"a network's adapter is recorded as {record!r:.120}, which is none")
    grid = record.get("grid", (1, 1))
    pair = isinstance(grid, (list, tuple)) and len(grid) == 2
    sizes = [record["width"], record.get("factor", 1), *(grid if pair else ())]
    whole = pair and all(type(size) is int and 0 < size < _LARGEST for size in sizes)
    scale = record.get("scale", 1.0)
    if not whole or type(record.get("bias", True)) is not bool or not (type(scale) is float and 0 < scale < _LARGEST):
        raise ModelError(f"a network's adapter is recorded as {record!r:.120}, which is none")
