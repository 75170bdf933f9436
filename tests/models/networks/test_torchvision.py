"""torchvision's networks behind the same face."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision

from kdbench.errors import ModelError
from kdbench.models.networks.torchvision_networks import build_torchvision, list_torchvision
from kdbench.models.zoo import create_model

#: name: stage channels, width of the map that the head reads
STAGES = {
    "shufflenet_v2_x1_0": ([116, 232, 464], 1024),
    "shufflenet_v2_x0_5": ([48, 96, 192], 1024),
    "resnet18": ([64, 128, 256, 512], 512),
    "mobilenet_v2": ([24, 32, 96, 1280], 1280),
    "regnet_x_400mf": ([32, 64, 160, 400], 400),
    "densenet121": ([256, 512, 1024, 1024], 1024),
    "swin_t": ([], 0),
}


def build(name: str):
    return create_model(f"torchvision:{name}", num_classes=5, seed=0, norm="imagenet").eval()


@pytest.mark.parametrize("name", STAGES)
def test_one_face(name: str) -> None:
    channels, width = STAGES[name]
    model = build(name)
    assert [s.channels for s in model.spec.stages] == channels
    theirs = torchvision.models.get_model(name, num_classes=5).state_dict()
    assert list(theirs) == list(model.backbone.state_dict())
    images = torch.rand(2, 3, 40, 40)
    kinds = model.spec.provides
    output = model(images, need=kinds)
    torch.testing.assert_close(output.logits, model.backbone(model.prepare(images)), rtol=0, atol=0)
    if name in ("shufflenet_v2_x1_0", "resnet18", "mobilenet_v2"):
        assert {"cams", "region_logits"} <= kinds
        assert output.region_maps.shape[1] == width
    again = model(images, need={"stages"} & kinds)
    for a, b in zip(output.stages or (), again.stages or (), strict=True):
        assert torch.equal(a, b)


def test_densenets_last_activation_leaves_the_map_alone() -> None:
    model = build("densenet121")
    last = model(torch.rand(2, 3, 64, 64), need={"stages"}).stages[-1]
    assert (last < 0).any()


def test_copies_train_on_their_own() -> None:
    model = build("shufflenet_v2_x0_5")
    twin = copy.deepcopy(model).train()
    images = torch.rand(4, 3, 64, 64)
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    twin(images, need={"stages"}).logits.square().sum().backward()
    assert all(p.grad is not None for p in twin.backbone.parameters())
    assert all(p.grad is None for p in model.backbone.parameters())
    assert not torch.equal(twin.backbone.state_dict()["conv1.1.running_mean"], before["conv1.1.running_mean"])
    assert all(torch.equal(value, before[key]) for key, value in model.backbone.state_dict().items())
    assert twin.backbone.network.training
    assert not twin.eval().backbone.network.training


def test_dropout_of_the_head_follows_the_mode() -> None:
    model = build("mobilenet_v2")
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(model(images).logits, model(images).logits)
    model.train()
    assert not torch.equal(model(images).penultimate, model(images).penultimate)


def test_networks_that_do_not_fit_say_why() -> None:
    with pytest.raises(ModelError, match="squeezenet1_1 does not end in a linear layer"):
        build_torchvision("squeezenet1_1", num_classes=5)
    assert "torchvision:shufflenet_v2_x1_0" in list_torchvision("shuffle*")
