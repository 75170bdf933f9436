"""State that a captured step may rely on: parameters and buffers keep their memory from step to step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from each_method import each_method
from torch import Tensor

from kdbench.bench.methods.replay import check_replay
from kdbench.distillers.base import Batch, Distiller, Losses, distillers, register_distiller
from kdbench.models.spec import ModelOutput

MATRIX = json.loads(Path(__file__).with_name("matrix.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("pair", [("cnn", "cnn"), ("mlp", "cnn"), ("cnn", "mlp"), ("token", "vit")], ids="-".join)
@pytest.mark.parametrize("method", each_method())
def test_state_stays_where_it_is(method: str, pair: tuple[str, str]) -> None:
    assert check_replay(method, *pair) == MATRIX[method][" -> ".join(pair)]


class Centred(Distiller):
    """Cross entropy of centred logits, whose centre follows the training."""

    def setup(self) -> None:
        self.register_buffer("centre", torch.zeros(self.student_spec.num_classes))

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        self.follow(student.logits.detach().mean(0))
        return {"ce": self.cross_entropy(student.logits - self.centre, batch)}

    def follow(self, mean: Tensor) -> None:
        self.centre.lerp_(mean, 0.1)


class Rebound(Centred):
    """The same, bound to a new tensor at every step."""

    def follow(self, mean: Tensor) -> None:
        self.centre = self.centre.lerp(mean, 0.1)


class Loose(Centred):
    """The same, beside a tensor that no checkpoint holds."""

    def follow(self, mean: Tensor) -> None:
        self.last = mean


@pytest.fixture
def registered() -> Iterator[None]:
    for cls in (Centred, Rebound, Loose):
        register_distiller(cls.__name__.upper())(cls)
    yield
    for cls in (Centred, Rebound, Loose):
        distillers.remove(cls.__name__.lower())


def test_a_buffer_that_moves_and_a_loose_tensor_are_found(registered: None) -> None:
    assert check_replay("CENTRED", "cnn", "cnn") == "runs"
    with pytest.raises(AssertionError, match=r"REBOUND: method\.centre moved to other memory"):
        check_replay("REBOUND", "cnn", "cnn")
    with pytest.raises(AssertionError, match="LOOSE: it holds last, which is neither"):
        check_replay("LOOSE", "cnn", "cnn")
