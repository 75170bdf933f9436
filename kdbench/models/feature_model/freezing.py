"""A FeatureModel whose classifier alone is trained."""

from __future__ import annotations

from torch import nn
from typing_extensions import Self

from kdbench.errors import ModelError
from kdbench.models.spec import ModelSpec


class Freezable(nn.Module):
    """``freeze_backbone`` and a ``train`` that respects it."""

    spec: ModelSpec
    backbone: nn.Module
    _classifier_names: tuple[str, ...] = ()
    _frozen = False

    def freeze_backbone(self) -> None:
        """Leave the classifier alone to be trained; the rest stays in evaluation mode from now on.

        Raises:
            ModelError: the network has no classifier of its own.
        """
        if not self._classifier_names:
            raise ModelError(f"{self.spec.name} has no classifier that could be trained alone; leave FREEZE empty")
        self._frozen = True
        self.backbone.requires_grad_(False)
        for name in self._classifier_names:
            self.backbone.get_submodule(name).requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As :meth:`nn.Module.train`, but for a frozen backbone."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
            for name in self._classifier_names:
                self.backbone.get_submodule(name).train(mode)
        return self
