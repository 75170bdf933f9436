"""FeatureModel: one face for every architecture.

Any backbone that speaks timm's feature interface (``forward_features``, ``forward_intermediates``, ``forward_head``) is
wrapped, never patched. One forward pass gives all that was asked for and computes nothing that was not.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.backbone import tensor_layout as layout
from kdbench.models.backbone.channels import input_channels, with_channels
from kdbench.models.backbone.classifier import classifier_names
from kdbench.models.backbone.intermediates import run_intermediates
from kdbench.models.feature_model import regions
from kdbench.models.feature_model.freezing import Freezable
from kdbench.models.feature_model.head import HeadKind, has_token_heads, probe_head, token_heads
from kdbench.models.feature_model.known_pieces import find_pieces
from kdbench.models.feature_model.pieces import Pieces
from kdbench.models.feature_model.shapes import Shapes, run_shapes
from kdbench.models.feature_model.stage_choice import FINAL, choose_stages
from kdbench.models.feature_model.stagewise import Stagewise
from kdbench.models.spec import IDENTITY, ModelOutput, ModelSpec, StageSpec, Statistics

_AT_PLACES = {"cams", "region_maps", "region_logits"}


class FeatureModel(Stagewise, Freezable, nn.Module):
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
        statistics: ``(mean, std)`` of the input, three numbers each; a network of one channel takes their means.
        stages: ``"auto"``, ``"ofakd"`` or indices of timm's intermediates (-1: the final feature map).

    Raises:
        ModelError: the backbone has not the asked stages, or the image is too small for it.
    """

    mean: Tensor
    std: Tensor
    #: weights were loaded, but no classifier was among them: it can learn, and cannot teach
    fresh_head: bool = False
    #: what stands between its last map and its classifier, see :mod:`kdbench.models.feature_model.adapted`; empty: nothing
    adapter: Mapping[str, Any] = MappingProxyType({})

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
        #: 3, or 1 of a network for grey images
        self.in_channels = input_channels(backbone)
        self._register_statistics(statistics)
        self._stage_indices = choose_stages(backbone, name, stages)
        self._pieces = find_pieces(backbone, self._stage_indices)
        prefix_tokens = int(getattr(backbone, "num_prefix_tokens", 0) or 0)
        # Not every class of timm knows the keyword, and a ViT without prefix tokens returns no tuple for it.
        interface: Any = getattr(backbone, "forward_intermediates", None)
        signature = inspect.signature(interface).parameters if self._stage_indices else {}
        self._asks_prefix = bool(prefix_tokens) and self._pieces is None and "return_prefix_tokens" in signature
        self._prefix_tokens = self._pieces.prefix_tokens if self._pieces else prefix_tokens if self._asks_prefix else 0
        self._classifier_names = tuple(classifier_names(backbone))
        self.spec = self._probe(name, family, num_classes)

    def _register_statistics(self, statistics: Statistics) -> None:
        mean, std = (tuple(map(float, values)) for values in statistics)
        self.statistics: Statistics = (mean, std)
        for key, values in (("mean", mean), ("std", std)):
            own = values if self.in_channels == 3 else [sum(values) / 3]
            self.register_buffer(key, torch.tensor(own).view(1, -1, 1, 1), persistent=False)
        self._identity = (mean, std) == IDENTITY

    def prepare(self, images: Tensor) -> Tensor:
        """Resize and normalise: (B, 3, H, W) or (B, 1, H, W) in [0, 1] -> the backbone's own input, grey where it reads that."""
        images = with_channels(images, self.in_channels)
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
        maps: dict[str, tuple[Any, ...]] = {}
        if not wanted & {"stages", "prefix", "pre_activation"}:
            features = self.backbone.forward_features(x)  # type: ignore[operator]
        elif self._pieces is not None:
            features, maps = self._walk(self._pieces, x, "pre_activation" in wanted)
        else:
            features, maps = self._intermediates(x, "prefix" in wanted)
        penultimate, logits = self._classify(features)
        if "bn_affine" in wanted and self._pieces is not None:
            maps["bn_affine"] = self._pieces.affine(self.backbone)
        if "prefix" in wanted:
            maps["prefix"] = tuple(
                p if p is not None else _no_tokens(m) for p, m in zip(maps["prefix"], maps["stages"])
            )
        output = ModelOutput(logits, penultimate)
        if "classifier" in wanted:
            output.classifier = self.classifier()
        for kind in wanted & maps.keys():
            setattr(output, kind, maps[kind])
        if "head_logits" in wanted:
            output.head_logits = token_heads(self.backbone, features)
        return self._at_places(output, features, wanted) if wanted & _AT_PLACES else output

    def classifier(self) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) of the linear layer from the penultimate vector to the logits, cut from the graph; zeros
        where it has no bias.

        Raises:
            ModelError: the classifier is no such layer.
        """
        if "classifier" not in self.spec.provides:
            raise ModelError(f"{self.spec.name} has no classifier that is one plain linear layer")
        linear: Any = self._plain_classifier()
        weight = linear.weight.detach()
        return weight, weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()

    @property
    def classifier_name(self) -> str:
        """Name of the classifier within the backbone; empty where there are several, or none."""
        return self._classifier_names[0] if len(self._classifier_names) == 1 else ""

    @property
    def feature_place(self) -> tuple[str, tuple[int, int], int]:
        """Of what the head reads: layout, (h, w) and how many prefix tokens."""
        return self._layout, self._final_grid or (0, 0), self._final_prefix

    def _walk(self, pieces: Pieces, x: Tensor, preact: bool) -> tuple[Tensor, dict[str, tuple[Any, ...]]]:
        x, pairs, before = pieces.begin(self.backbone, x), [], []
        for i, stage in enumerate(self.spec.stages):
            if preact:
                x, early = pieces.run_with_preact(self.backbone, i, x)
                before.append(early)
            else:
                x = pieces.run(self.backbone, i, x)
            pairs.append(layout.to_map(x, pieces.layout, stage.grid, pieces.prefix_tokens))
        maps = {"stages": tuple(p[0] for p in pairs), "prefix": tuple(p[1] for p in pairs)}
        return pieces.rest(self.backbone, x), maps | {"pre_activation": tuple(before)}

    def _intermediates(self, x: Tensor, want_prefix: bool) -> tuple[Tensor, dict[str, tuple[Any, ...]]]:
        own = [i for i in self._stage_indices if i != FINAL]
        extra = {"return_prefix_tokens": True} if want_prefix and self._asks_prefix else {}
        features, found = run_intermediates(self.backbone, x, own, **extra)
        pairs = [item if isinstance(item, (tuple, list)) else (item, None) for item in found]
        by_index = dict(zip(sorted(set(own)), pairs))
        if FINAL in self._stage_indices:
            by_index[FINAL] = (self._feature_map(features), None)
        chosen = [by_index[i] for i in self._stage_indices]
        return features, {"stages": tuple(p[0] for p in chosen), "prefix": tuple(p[1] for p in chosen)}

    def _feature_map(self, features: Tensor) -> Tensor:
        return layout.to_map(features, self._layout, self._final_grid or (0, 0), self._final_prefix)[0]

    def _at_places(self, output: ModelOutput, features: Tensor, wanted: set[str]) -> ModelOutput:
        last = self._feature_map(features)
        classifier: Any = self._plain_classifier()
        if "region_maps" in wanted:
            output.region_maps = last
        if "cams" in wanted:
            output.cams = regions.cams(last, classifier)
        if "region_logits" in wanted and self._head_kind is HeadKind.GAP:
            output.region_logits = regions.region_logits(last, classifier)
        elif "region_logits" in wanted:
            output.region_logits = regions.region_logits_by_head(last, self.backbone, self._layout, self._final_prefix)
        return output

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
        begin = self._pieces.begin if self._pieces else None
        shapes = run_shapes(self.backbone, self.input_size, indices, name, begin)
        self._layout = layout.layout_of(shapes.features, str(getattr(self.backbone, "output_fmt", "")))
        tokens = self._layout == layout.NLC
        self._final_prefix = int(getattr(self.backbone, "num_prefix_tokens", 0) or 0) if tokens else 0
        self._final_grid = self._grid(shapes.features, shapes)
        self._head_kind = probe_head(self.backbone, shapes, self._classifier_names, self._layout, self._final_prefix)
        by_index = {i: (m[1], (m[2], m[3])) for i, m in zip(sorted(set(indices)), shapes.maps)}
        if FINAL in self._stage_indices:
            if self._final_grid is None:
                raise ModelError(f"{name}: its final features are no map, so STAGES cannot end in {FINAL}")
            by_index[FINAL] = (shapes.features[1 if self._layout == layout.NCHW else -1], self._final_grid)
        stages = tuple(StageSpec(*by_index[i], self._prefix_tokens, str(i)) for i in self._stage_indices)
        return ModelSpec(
            name=name,
            family=family,
            num_classes=num_classes,
            penultimate=shapes.penultimate[1],
            input_size=self.input_size,
            stages=stages,
            pre_activation=stages if self._pieces is not None and self._pieces.preact is not None else (),
            provides=self._provides(),
            token_features=self._layout != layout.NCHW or bool(self._prefix_tokens) or _branches(shapes, family),
            params=sum(p.numel() for p in self.backbone.parameters()),
            head=self._head_kind.value,
            stem=self._stem(shapes),
        )

    def _provides(self) -> frozenset[str]:
        found = {"logits", "penultimate"} | ({"stages", "prefix"} if self._stage_indices else set())
        if self._pieces is not None and self._pieces.preact is not None:
            found |= {"pre_activation"} | ({"bn_affine"} if self._pieces.norms else set())
        if type(self._plain_classifier()) is nn.Linear:
            found |= {"classifier"}
        # Tokens may come in any order where the network is not known.
        ordered = self._final_grid is not None and (self._layout != layout.NLC or self._pieces is not None)
        if ordered and self._head_kind is HeadKind.GAP and isinstance(self._plain_classifier(), nn.Linear):
            found |= _AT_PLACES
        elif ordered and self._head_kind is HeadKind.POOL:
            found |= _AT_PLACES - {"cams"}
        if has_token_heads(self.backbone):
            found.add("head_logits")
        return frozenset(found)

    def _grid(self, shape: Sequence[int], shapes: Shapes) -> tuple[int, int] | None:
        known = (shapes.maps[-1][2], shapes.maps[-1][3]) if shapes.maps else None
        return layout.grid_of(shape, self._layout, self._final_prefix, known) if len(shape) in (3, 4) else None

    def _stem(self, shapes: Shapes) -> StageSpec | None:
        if self._pieces is None or (grid := self._grid(shapes.stem, shapes)) is None:
            return None
        channels = shapes.stem[1 if self._pieces.layout == layout.NCHW else -1]
        return StageSpec(channels, grid, self._pieces.prefix_tokens, "stem")


def _branches(shapes: Shapes, family: str) -> bool:
    return not shapes.features and family == "vit"


def _no_tokens(feature_map: Tensor) -> Tensor:
    return feature_map.new_zeros(feature_map.shape[0], 0, feature_map.shape[1])
