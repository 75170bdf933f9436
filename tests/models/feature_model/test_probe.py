"""Networks whose shapes cannot be found: one line that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.feature_model.model import FeatureModel


class ReadsValues(nn.Module):
    """Its features are scaled by a number that it reads from a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward_features(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * x.max().item()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x if pre_logits else self.fc(x)

    def get_classifier(self) -> nn.Module:
        return self.fc


class Headless(ReadsValues):
    """An encoder of timm's that says so."""

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        raise NotImplementedError("Headless does not support classification use cases.")


def wrap(network: nn.Module) -> Any:
    return FeatureModel(network, name="mine", family="cnn", num_classes=2, input_size=(8, 8))


def test_values_can_be_read_on_a_real_device_alone() -> None:
    assert wrap(ReadsValues()).spec.penultimate == 3
    with (
        torch.device("meta"),
        pytest.raises(ModelError, match=r"mine cannot be described.*build it on a real device") as error,
    ):
        wrap(ReadsValues())
    assert "\n" not in str(error.value)


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(ModelError, match=r"mine gives no logits.*choose a network that classifies") as error:
        wrap(Headless())
    assert "\n" not in str(error.value)
