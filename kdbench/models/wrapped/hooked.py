"""A network behind timm's feature interface, with hooks that read its maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.backbone import tensor_layout as layout
from kdbench.models.backbone.channels import input_channels
from kdbench.models.backbone.evaluating import evaluating
from kdbench.models.backbone.transparent import TransparentWrapper


class _Seen:
    """What hooks have kept of a forward pass, while they are to. No dictionary of the module's own: ``torch.export`` puts a copy of
    such a one in its place."""

    def __init__(self) -> None:
        self.wanted = False
        self.kept: dict[str, Any] = {}


class _Tap:
    """A hook that keeps a tensor; an object and not a closure, so that a copied network has a tap of its own."""

    def __init__(self, seen: _Seen, key: str, *, before: bool) -> None:
        self.seen, self.key, self.before = seen, key, before

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any = None) -> None:
        if self.seen.wanted:
            self.seen.kept[self.key] = (inputs[0] if inputs else None) if self.before else output


class HookedBackbone(TransparentWrapper):
    """timm's feature interface over hooks. ``features`` is the classifier's input, (B, D)."""

    def __init__(self, module: nn.Module, stages: list[str], classifier: str, name: str, prefix_tokens: int) -> None:
        super().__init__(module)
        self.stage_names, self.classifier_name, self.title = stages, classifier, name
        self.num_prefix_tokens = prefix_tokens
        self.in_channels = input_channels(module)
        self.unused_parameters = bool(getattr(module, "unused_parameters", False))
        self.feature_info: list[dict[str, Any]] = []
        self._seen = _Seen()
        for stage in stages:
            self.get_submodule(stage).register_forward_hook(_Tap(self._seen, stage, before=False))
        self.get_submodule(classifier).register_forward_pre_hook(_Tap(self._seen, "", before=True))

    def measure(self, size: tuple[int, int], num_classes: int) -> None:
        """Run once, in evaluation mode, to find the shapes of the stages; see :func:`kdbench.wrap_model`."""
        like = next(self.parameters())
        with evaluating(self.network, self):
            image = torch.zeros(2, self.in_channels, *size, device=like.device, dtype=like.dtype)
            vector, maps = self.forward_intermediates(image)
            logits = self.get_classifier()(vector)
        if tuple(logits.shape) != (2, num_classes):
            raise ModelError(
                f"{self.title}: {self.classifier_name} gives {tuple(logits.shape[1:])}, not {num_classes} classes"
            )
        self.feature_info = [
            {"num_chs": m.shape[1], "reduction": i, "module": stage}
            for i, (stage, m) in enumerate(zip(self.stage_names, maps))
        ]

    def forward(self, x: Tensor) -> Tensor:
        """The network's own forward pass."""
        return self.network(x)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), the classifier's input."""
        return self._run(x)[""]

    def forward_intermediates(self, x: Tensor, indices: Sequence[int] | None = None) -> tuple[Tensor, list[Tensor]]:
        """``(features, [maps of the stages in indices])``."""
        seen = self._run(x)
        names = [n for i, n in enumerate(self.stage_names) if indices is None or i in indices]
        return seen[""], [self._map(n, seen[n]) for n in names]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, D) -> itself, or (B, K)."""
        return x if pre_logits else self.get_classifier()(x)

    def get_classifier(self) -> nn.Module:
        """The named classifier."""
        return self.get_submodule(self.classifier_name)

    def _run(self, x: Tensor) -> dict[str, Any]:
        self._seen.wanted = True
        try:
            self.network(x)
            seen = self._seen.kept
        finally:
            self._seen.wanted, self._seen.kept = False, {}
        missing = [n or self.classifier_name for n in (*self.stage_names, "") if n not in seen]
        if missing:
            raise ModelError(f"{self.title} does not call {', '.join(missing)} in its forward pass")
        if not isinstance(seen[""], Tensor) or seen[""].dim() != 2:
            raise ModelError(f"{self.title}: the input of {self.classifier_name} is no (B, D) vector")
        return seen

    def _map(self, stage: str, output: Any) -> Tensor:
        if isinstance(output, Tensor) and output.dim() == 4:
            return layout.to_map(output, layout.layout_of(output.shape), (0, 0))[0]
        if isinstance(output, Tensor) and output.dim() == 3:
            grid = layout.grid_of(output.shape, layout.NLC, self.num_prefix_tokens, None)
            if grid is not None:
                return layout.to_map(output, layout.NLC, grid, self.num_prefix_tokens)[0]
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(
            f"{self.title}: stage {stage} gives {shape}, no (B, C, H, W) map and no tokens of a square grid "
            f"behind {self.num_prefix_tokens} prefix tokens"
        )
