"""Weights between networks of three channels and of one: on grey images both compute the same."""

from __future__ import annotations

import logging

import pytest
import torch
from plain_network import Plain
from safetensors.torch import save_file
from timm.models import adapt_input_conv

import kdbench
from kdbench.models.registry import models
from kdbench.models.weights.channels import adapt_channels

GREY = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)


@pytest.fixture
def name():
    @kdbench.register_model("own_grey", family="cnn", input_size=16)
    def own_grey(num_classes, channels=3):
        return Plain(num_classes, channels)

    yield "own_grey"
    models.remove("own_grey")


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3)])
def test_both_ways(tmp_path, caplog, name, before, after):
    source = kdbench.create_model(name, num_classes=5, channels=before, seed=1, norm="none").eval()
    save_file(source.backbone.state_dict(), tmp_path / "weights.safetensors")
    with caplog.at_level(logging.INFO, "kdbench"):
        model = kdbench.create_model(
            name, num_classes=5, channels=after, weights=str(tmp_path / "weights.safetensors"), norm="none"
        ).eval()
    assert model.in_channels == after
    assert f"images of {before} channels; adapted to {after}" in caplog.text
    torch.testing.assert_close(model(GREY).logits, source(GREY).logits)


def test_channels_are_summed_as_timm_does():
    network = Plain(channels=1)
    wide = torch.rand(8, 3, 3, 3)
    adapted = adapt_channels(network, {"conv1.weight": wide}, "file")
    assert torch.equal(adapted["conv1.weight"], adapt_input_conv(1, wide))


@pytest.mark.parametrize("shape", [(8, 1, 3, 3), (8, 4, 3, 3), (6, 3, 3, 3), (8, 3, 5, 5), (8, 3)])
def test_anything_else_is_left_as_it_is(shape):
    state = {"conv1.weight": torch.rand(shape)}
    assert adapt_channels(Plain(channels=1), state, "file")["conv1.weight"] is state["conv1.weight"]


def test_a_timm_network_of_one_channel():
    model = kdbench.create_model("timm:resnet18", num_classes=5, input_size=32, in_chans=1).eval()
    assert model.in_channels == 1
    assert model(torch.rand(2, 3, 32, 32), need={"stages"}).stages[0].shape == (2, 64, 8, 8)
