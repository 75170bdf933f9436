"""Base of this project's own networks: timm's feature interface from a handful of hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class StagedBackbone(nn.Module):
    """A convolutional network that is a stem, some stages, a pooling and a linear classifier.

    A subclass sets ``num_classes``, ``num_features`` (width of the pooled vector), ``feature_info`` (one
    ``{"num_chs", "reduction", "module"}`` a stage, as in timm; the stem is no stage) and fills the hooks
    :meth:`run_stem`, :meth:`stage_with_preact` and, where it differs, :meth:`run_tail`. It then answers to timm's
    ``forward_features``, ``forward_head``, ``forward_intermediates`` and ``get_classifier``.
    """

    num_classes: int
    num_features: int
    feature_info: list[dict[str, Any]]
    #: name of the linear classifier's attribute, as the published checkpoints call it
    classifier_name = "fc"
    #: whether :meth:`stage_with_preact` gives a map before the last activation
    has_preact = True

    @property
    def head_hidden_size(self) -> int:
        """Width of the classifier's input."""
        return self.num_features

    def run_stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the first stage's input."""
        raise TypeError(f"{type(self).__name__} must define run_stem(x)")

    def stage_with_preact(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stage ``i`` (from 0): its output, and the same map before its last activation (or the output itself)."""
        raise TypeError(f"{type(self).__name__} must define stage_with_preact(i, x)")

    def run_tail(self, x: Tensor) -> Tensor:
        """What stands between the last stage and the pooling; nothing, unless a network says otherwise."""
        return x

    def bn_before_relu(self, i: int) -> nn.BatchNorm2d | None:
        """The batch normalisation right before stage ``i``'s last activation, or None."""
        return None

    def run_stage(self, i: int, x: Tensor) -> Tensor:
        """Output of stage ``i`` (from 0)."""
        return self.stage_with_preact(i, x)[0]

    def forward_features(self, x: Tensor) -> Tensor:
        """The map that is pooled."""
        x = self.run_stem(x)
        for i in range(len(self.feature_info)):
            x = self.run_stage(i, x)
        return self.run_tail(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool (and classify, unless ``pre_logits``): (B, C, H, W) -> (B, D) or (B, K)."""
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return x if pre_logits else self.get_classifier()(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """timm's interface: ``(features, [maps of the stages in indices])``."""
        wanted = set(range(len(self.feature_info)) if indices is None else indices)
        maps = []
        x = self.run_stem(x)
        for i in range(len(self.feature_info)):
            x = self.run_stage(i, x)
            if i in wanted:
                maps.append(x)
        return maps if intermediates_only else (self.run_tail(x), maps)

    def get_classifier(self) -> nn.Module:
        """The linear classifier."""
        return self.get_submodule(self.classifier_name)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        return self.forward_head(self.forward_features(x))
