"""Running a FeatureModel stage by stage, for methods that work inside the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.backbone import tensor_layout as layout
from kdbench.models.feature_model.pieces import Pieces
from kdbench.models.spec import ModelOutput, ModelSpec, StageSpec


class Stagewise:
    """``finish(run_stage(S - 1, ... run_stage(0, begin(images))))`` is the forward pass, for networks whose spec has a
    ``stem``.

    ``x`` is what the network itself hands from stage to stage (maps or tokens); :meth:`to_map` and :meth:`from_map`
    translate. Stage ``-1`` is the stem. Every method raises :class:`ModelError` where the spec has no stem.
    """

    if TYPE_CHECKING:
        spec: ModelSpec
        backbone: nn.Module
        prepare: Callable[[Tensor], Tensor]
        _classify: Callable[[Tensor], tuple[Tensor, Tensor]]

    _pieces: Pieces | None = None

    def begin(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [0, 1] -> the stem's output."""
        return self._by_stages().begin(self.backbone, self.prepare(images))

    def run_stage(self, i: int, x: Tensor) -> Tensor:
        """The previous stage's output -> that of stage ``i``."""
        return self._by_stages().run(self.backbone, i, x)

    def to_map(self, i: int, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Stage ``i``'s output as a (B, C, H, W) map and its (B, P, C) prefix tokens (None without any)."""
        pieces = self._by_stages()
        return layout.to_map(x, pieces.layout, self._stage(i).grid, pieces.prefix_tokens)

    def from_map(self, i: int, feature_map: Tensor, prefix: Tensor | None) -> Tensor:
        """The inverse of :meth:`to_map`.

        Raises:
            ModelError: the stage has prefix tokens and none are given.
        """
        pieces = self._by_stages()
        if pieces.prefix_tokens and prefix is None:
            raise ModelError(
                f"{self.spec.name}: stage {i} has {pieces.prefix_tokens} prefix tokens, and none were given"
            )
        return layout.from_map(feature_map, pieces.layout, prefix)

    def finish(self, x: Tensor) -> ModelOutput:
        """The last stage's output -> logits and penultimate."""
        penultimate, logits = self._classify(self._by_stages().rest(self.backbone, x))
        return ModelOutput(logits, penultimate)

    def _stage(self, i: int) -> StageSpec:
        found = self.spec.stem if i < 0 else self.spec.stages[i]
        if found is None:
            raise ModelError(f"{self.spec.name} cannot be run stage by stage")
        return found

    def _by_stages(self) -> Pieces:
        if self._pieces is None or self.spec.stem is None:
            raise ModelError(f"{self.spec.name} cannot be run stage by stage")
        return self._pieces
