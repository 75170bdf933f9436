"""timm's vision encoders of language models (``*_enc``), which have no classifier, with one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.models.backbone.intermediates import patch_grid, run_intermediates, timm_class
from kdbench.models.backbone.tensor_layout import NCHW
from kdbench.models.backbone.transparent import TransparentWrapper


def with_classifier(network: nn.Module, num_classes: int) -> nn.Module:
    """The network itself, or an :class:`EncoderClassifier` around an encoder that has no classifier."""
    return EncoderClassifier(network, num_classes) if timm_class(network) in _OUTPUT else network


class EncoderClassifier(TransparentWrapper):
    """An encoder and a fresh linear classifier on the mean over places of what the encoder gives.

    That is what its language model is fed with, so that every parameter takes part: DeepSeek's and Qwen's projector joins
    3x3 or 2x2 tokens into one of the language model's width, Gemma 4 averages 3x3 tokens (times the root of their width),
    MobileNetV5 fuses its last two stages at 16x16. The stages are the maps of the trunk before that. timm's DeepSeek, Gemma
    and Qwen names without ``_enc`` classify by the trunk alone.

    The state dict is the encoder's own, plus ``head.weight`` and ``head.bias``.

    Args:
        network: one of timm's encoders.
        num_classes: K; with 0 the head is an identity.
    """

    def __init__(self, network: Any, num_classes: int) -> None:
        super().__init__(network)
        self.num_features: int = network.head_hidden_size
        self.head_hidden_size = self.num_features
        self.feature_info = network.feature_info
        self.pretrained_cfg = network.pretrained_cfg
        self.output_fmt: str = getattr(network, "output_fmt", NCHW)
        self._output = _OUTPUT[timm_class(network)]
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh classifier of K classes, on the encoder's device and in its precision."""
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes > 0:
            like = next(self.network.parameters())
            self.head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)
        self.head.train(self.training)

    def get_classifier(self) -> nn.Module:
        """The linear layer."""
        return self.head

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the encoder's own output: (B, L, D) tokens row by row, or a (B, D, H, W) map."""
        return self._output(self.network, self.network.forward_features(x), x)

    def forward_intermediates(self, x: Tensor, indices: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """``(features, [maps after the blocks or stages in indices])``."""
        trunk, maps = run_intermediates(self.network, x, indices)
        return self._output(self.network, trunk, x), maps

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over places (and classify, unless ``pre_logits``): features -> (B, D) or (B, K)."""
        x = x.mean((2, 3)) if x.dim() == 4 and self.output_fmt == NCHW else x.flatten(1, -2).mean(1)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        return self.forward_head(self.forward_features(x))


# Each: (encoder, features of its trunk, image) -> what the encoder's forward pass returns, which is the projection of the
# trunk's features unless an option took it away.
def _merged(encoder: Any, trunk: Tensor, image: Tensor) -> Tensor:
    return trunk if encoder.merger is None else encoder.merger(trunk)


def _aligned(encoder: Any, trunk: Tensor, image: Tensor) -> Tensor:
    return trunk if encoder.aligner is None else encoder.aligner(trunk)


def _pooled(encoder: Any, trunk: Tensor, image: Tensor) -> Tensor:
    if encoder.global_pool != "soft":
        return trunk
    height, width = patch_grid(encoder, image)
    y, x = torch.arange(height, device=image.device), torch.arange(width, device=image.device)
    positions = torch.stack((x.repeat(height), y.repeat_interleave(width)), dim=-1)  # the pooler wants (x, y)
    pooled, _ = encoder.pooler(trunk, positions.expand(len(image), -1, -1), None)
    return pooled if encoder.std_bias is None else (pooled - encoder.std_bias) * encoder.std_scale


def _as_it_is(encoder: Any, trunk: Tensor, image: Tensor) -> Tensor:
    return trunk


#: by module and class name, as in :mod:`kdbench.models.feature_model.known_pieces`
_OUTPUT: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "qwen3_vit.Qwen3VitEncoder": _merged,
    "deepseek_vit.DeepseekVitEncoder": _aligned,
    "gemma4_vit.Gemma4VitEncoder": _pooled,
    "mobilenetv5.MobileNetV5Encoder": _as_it_is,
}
