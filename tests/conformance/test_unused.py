"""Every registered method declares it where a trained parameter may get no gradient: several processes would wait for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from each_method import each_method
from torch import nn

from kdbench.bench.methods.conformance import NETWORKS, check_pair, create_pair, make_batch, step, unused_parameters
from kdbench.distillers.base import Batch, Distiller, Losses, distillers, register_distiller
from kdbench.distillers.unused import left_out
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput
from kdbench.models.zoo import create_model

MATRIX = json.loads(Path(__file__).with_name("matrix.json").read_text(encoding="utf-8"))
#: epoch and size of batches: two of the first epoch, one of another size, and one behind every warm-up
STEPS = ((1, 8), (1, 8), (1, 6), (300, 8))


@pytest.mark.parametrize("method", each_method())
def test_declared_where_it_happens_and_nowhere_else(method: str) -> None:
    happens = False
    for pair, outcome in MATRIX[method].items():
        if outcome != "runs":
            continue
        teacher, _, student = pair.partition(" -> ")
        s_model, t_model, distiller = create_pair(method, NETWORKS[teacher], NETWORKS[student])
        for number, (epoch, size) in enumerate(STEPS):
            batch = make_batch(s_model, size, first=size * number)
            batch.epoch = epoch
            for parameter in (*s_model.parameters(), *distiller.parameters()):
                parameter.grad = None
            terms = step(distiller, s_model, t_model, batch)
            torch.stack(list(terms.values())).sum().backward()
            found = unused_parameters(distiller, s_model)
            assert distiller.unused_parameters or not found, f"{pair}, step {number}: {sorted(found)}"
            happens = happens or bool(found)
    assert happens == distillers.get(method).unused_parameters


class Spare(Distiller):
    """Has a module that nothing uses."""

    def setup(self) -> None:
        self.spare = nn.Linear(2, 2)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        return {"ce": self.cross_entropy(student.logits, batch)}


class Declared(Spare):
    """Says so."""

    unused_parameters = True


@pytest.fixture(autouse=True)
def tried() -> Iterator[None]:
    register_distiller("SPARE")(Spare)
    register_distiller("DECLARED")(Declared)
    yield
    for name in ("spare", "declared"):
        distillers.remove(name)


def test_the_check_of_a_new_method_names_the_declaration() -> None:
    with pytest.raises(
        AssertionError, match=r"SPARE: no gradient reaches method.spare.bias, .* declare unused_parameters = True"
    ):
        check_pair("SPARE", "cnn", "cnn")
    assert check_pair("DECLARED", "cnn", "cnn") == "runs"


def network() -> FeatureModel:
    """A student with a layer that its forward pass leaves out."""
    model = create_model("small_cnn", num_classes=10, seed=1)
    model.backbone.aside = nn.Linear(3, 3)
    return model.train()


def test_what_a_network_leaves_out_needs_no_declaration_and_looking_changes_nothing() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert left_out(model, {"logits"}) == {"backbone.aside.weight", "backbone.aside.bias"}
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_frozen_network_leaves_nothing_out() -> None:
    assert left_out(network().requires_grad_(False), {"logits"}) == set()
