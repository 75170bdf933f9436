"""Stages and classifier that nobody names: which are found, and the line that says what is missing."""

from __future__ import annotations

import logging

import pytest
import torch
from plain_network import Plain
from torch import Tensor, nn

import kdbench
from kdbench.errors import ModelError


class Expanding(nn.Module):
    """Blocks that widen at their old resolution before they stride, behind a stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 12, 1), nn.ReLU(), nn.Conv2d(12, 4, 3, stride=stride, padding=1))
            for stride in (1, 2, 1, 2)
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(4, 7))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Tokens(nn.Module):
    """A small transformer with a class token; one attention map a block passes through a module of its own."""

    def __init__(self, depth: int = 6) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(depth))
        self.out = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(len(x), -1, -1), x), dim=1)
        for layer in self.layers:
            x = layer(x)
        return self.out(x[:, 0])


def wrap(network: nn.Module, **changes: object) -> kdbench.FeatureModel:
    return kdbench.wrap_model(network, **{"num_classes": 7, "input_size": 16, **changes})


@pytest.mark.parametrize(
    ("network", "stages", "classifier", "grids"),
    [
        (Plain(), ["conv2", "conv3"], "fc", [(8, 8), (4, 4)]),
        (Expanding(), ["blocks.0", "blocks.2", "blocks.3"], "head.3", [(8, 8), (4, 4), (2, 2)]),
        (Tokens(), ["layers.1", "layers.2", "layers.4", "layers.5"], "out", [(4, 4)] * 4),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 7)), [], "1", []),
    ],
    ids=["pyramid", "expanding", "tokens", "flat"],
)
def test_what_is_found(caplog, network, stages, classifier, grids):
    with caplog.at_level(logging.INFO, "kdbench"):
        model = wrap(network)
    assert (model.backbone.stage_names, model.backbone.classifier_name) == (stages, classifier)
    assert [stage.grid for stage in model.spec.stages] == grids
    assert f"classifier: {classifier}" in caplog.text
    assert ", ".join(stages) in caplog.text
    images = torch.rand(2, 3, 16, 16)
    need = {"stages"} if stages else set()
    assert torch.equal(model.eval()(images, need=need).logits, network.eval()(images))


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "mobilenet_v3_small", "vit_b_16", "convnext_tiny"])
def test_stages_of_known_networks_are_the_usual_ones(name):
    import torchvision

    expected = {
        "resnet18": ["layer1", "layer2", "layer3", "layer4"],
        "vgg11": ["features.9", "features.14", "features.19", "avgpool"],
        "mobilenet_v3_small": ["features.1", "features.3", "features.8", "features"],
        "vit_b_16": [f"encoder.layers.encoder_layer_{i}" for i in (2, 5, 8, 11)],
        "convnext_tiny": ["features.1", "features.3", "features.5", "features"],
    }
    from kdbench.models.wrapped.probe import find_classifier, find_stages, trace

    with torch.device("meta"):
        network = getattr(torchvision.models, name)()
    found = trace(network, (224, 224), 3, name)
    assert find_stages(found, (224, 224))[0] == expected[name]
    assert isinstance(network.get_submodule(find_classifier(found, 1000, name)), nn.Linear)


class Answers(nn.Module):
    """Gives whatever a test makes of its two heads."""

    def __init__(self, make) -> None:
        super().__init__()
        self.body, self.one, self.two, self.make = nn.Conv2d(3, 4, 3), nn.Linear(4, 7), nn.Linear(4, 7), make

    def forward(self, x: Tensor) -> object:
        x = self.body(x).mean((2, 3))
        return self.make(self.one(x), self.two(x))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda a, b: a + b, r"several submodules may be its classifier \(candidates: one, two\); name one"),
        (lambda a, b: (a, b), r"returns a tuple \(\(2, 7\), \(2, 7\)\), expects \(B, 7\) logits.*candidates: one, two"),
        (lambda a, b: {"logits": a}, r"returns a dict \(logits: \(2, 7\)\)"),
        (lambda a, b: a[:, :5], r"returns \(2, 5\), expects \(B, 7\) logits"),
        (lambda a, b: None, "returns a NoneType"),
    ],
)
def test_a_missing_classifier_is_told_in_one_line(make, told):
    with pytest.raises(ModelError, match=told) as error:
        wrap(Answers(make))
    assert "\n" not in str(error.value)


def test_the_classifier_that_is_named_gives_the_logits():
    network = Answers(lambda a, b: (a, b)).eval()
    model = wrap(network, classifier="two").eval()
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(images).logits, network(images)[1])


def test_no_layer_gives_the_classes():
    network = nn.Sequential(nn.Conv2d(3, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ModelError, match=r"no classifier found, no submodule maps \(B, D\) vectors to 7 classes"):
        wrap(network)


class Pairs(nn.Module):
    """A stage that gives a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.ModuleDict({"inner": nn.Conv2d(3, 4, 3, stride=2)})
        self.stage.forward = lambda x: (self.stage["inner"](x), None)
        self.fc = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stage(x)[0].mean((2, 3)))


def test_a_stage_that_gives_a_tuple_is_told_with_what_is_in_it():
    with pytest.raises(ModelError, match=r"stage stage gives a tuple.*within it stage\.inner give"):
        wrap(Pairs(), stages=["stage"], classifier="fc")
    assert wrap(Pairs(), stages=["stage.inner"]).spec.stages[0].channels == 4


def test_an_image_that_it_does_not_take_is_told():
    with pytest.raises(ModelError, match=r"cannot take a 16x16 image of 3 channels .*set INPUT_SIZE"):
        wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 7)))


def test_named_stages_are_taken_whatever_they_are_called():
    model = wrap(Plain(), stages=["conv1", "conv3"])
    assert [stage.channels for stage in model.spec.stages] == [8, 32]


def test_of_more_than_four_the_last_four():
    network = nn.Sequential(*[nn.Conv2d(3 + i, 4 + i, 1) for i in range(6)], nn.Flatten(), nn.Linear(9 * 256, 7))
    model = wrap(network, stages=list("012345"))
    assert [stage.channels for stage in model.spec.stages] == [6, 7, 8, 9]


def test_a_network_of_one_channel_sees_grey():
    network = Plain(channels=1).eval()
    model = wrap(network, statistics=((0.3, 0.4, 0.5), (0.2, 0.2, 0.2))).eval()
    grey = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(model(grey).logits, network((grey - 0.4) / 0.2))
    torch.testing.assert_close(model(grey.expand(-1, 3, -1, -1)).logits, model(grey).logits)
    colours = torch.rand(2, 3, 16, 16)
    share = torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    torch.testing.assert_close(model(colours).logits, model((colours * share).sum(1, keepdim=True)).logits)


def test_a_network_of_three_channels_takes_grey_images():
    model = wrap(Plain()).eval()
    grey = torch.rand(2, 1, 16, 16)
    assert torch.equal(model(grey).logits, model(grey.repeat(1, 3, 1, 1)).logits)
