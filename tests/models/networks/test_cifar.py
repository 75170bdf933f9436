"""The 32x32 networks are the published functions, keep the published layouts and honour the stage contract."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.backbone.staged import StagedBackbone
from kdbench.models.networks.cifar import CIFAR_MODELS

GOLDEN = Path(__file__).parents[2] / "golden" / "models"
LAYOUTS: dict[str, dict[str, list[int]]] = json.loads((GOLDEN / "checkpoint_layouts.json").read_text())
VECTORS = sorted(path.stem for path in GOLDEN.glob("*.npz"))
#: one network a file, the small ones
FAMILIES = ["resnet8", "resnet8x4", "ResNet18", "ResNet50", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2"]
#: networks whose stage output is the ReLU of the map before the last activation
RELU_STAGES = [n for n in FAMILIES if n not in ("wrn_16_1", "MobileNetV2")]


def seeded_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """The value that the golden vectors give to the tensor of that key."""
    x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    kind = key.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if kind == "running_var":
        x = 1 + 0.1 * np.abs(x)
    elif len(shape) >= 2:
        x = x * np.sqrt(2 / np.prod(shape[1:]))
    elif kind == "weight":
        x = 1 + 0.1 * x
    else:
        x = 0.1 * x
    return torch.as_tensor(x)


def seeded(name: str) -> StagedBackbone:
    """The network in float64 and evaluation mode, each tensor a function of its key."""
    network = CIFAR_MODELS[name](num_classes=100).double().eval()
    network.load_state_dict({k: seeded_tensor(k, tuple(v.shape)) for k, v in network.state_dict().items()})
    return network


def images(size: int = 32, batch: int = 2) -> Tensor:
    return torch.as_tensor(np.random.default_rng(2026).standard_normal((batch, 3, size, size)))


def test_there_is_a_vector_for_every_family() -> None:
    assert len(VECTORS) == 9
    assert set(CIFAR_MODELS) == set(LAYOUTS)


@pytest.mark.parametrize("name", VECTORS)
@torch.no_grad()
def test_golden_outputs(name: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    network = seeded(name)
    stem = network.run_stem(images())
    features, maps = network.forward_intermediates(images())
    penultimate = network.forward_head(features, pre_logits=True)
    np.testing.assert_allclose(penultimate.numpy(), golden["penultimate"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(network(images()).numpy(), golden["logits"], rtol=1e-9, atol=1e-12)
    assert [list(m.shape) for m in (stem, *maps)] == json.loads(str(golden["feat_shapes"]))
    assert sum(p.numel() for p in network.parameters()) == int(golden["params"])


@pytest.mark.parametrize("name", CIFAR_MODELS)
def test_layout_of_the_published_checkpoint(name: str) -> None:
    with torch.device("meta"):
        network = CIFAR_MODELS[name](num_classes=100)
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == LAYOUTS[name]


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_intermediates_and_head_equal_forward(name: str, size: int) -> None:
    network = seeded(name)
    x = images(size)
    logits = network(x)
    features, maps = network.forward_intermediates(x)
    assert logits.shape == (2, 100)
    assert torch.equal(network.forward_head(features), logits)
    assert torch.equal(network.get_classifier()(network.forward_head(features, pre_logits=True)), logits)
    assert torch.equal(network.forward_features(x), features)
    assert [m.shape[1] for m in maps] == [info["num_chs"] for info in network.feature_info]
    assert features.shape[1] == network.num_features == network.head_hidden_size
    if size == 32:
        assert [32 // m.shape[-1] for m in maps] == [info["reduction"] for info in network.feature_info]
    for info in network.feature_info:
        assert isinstance(network.get_submodule(info["module"]), nn.Module)


@pytest.mark.parametrize("name", CIFAR_MODELS)
def test_shapes_at_224_and_classifier_width(name: str) -> None:
    with torch.device("meta"):
        network = CIFAR_MODELS[name](num_classes=7).eval()
        assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 7)
    classifier = network.get_classifier()
    assert isinstance(classifier, nn.Linear)
    assert (classifier.in_features, classifier.out_features, network.num_classes) == (network.num_features, 7, 7)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_stage_with_preact_gives_the_stage(name: str) -> None:
    network = seeded(name)
    x = network.run_stem(images())
    for i in range(len(network.feature_info)):
        expected = network.run_stage(i, x.clone())
        output, pre = network.stage_with_preact(i, x.clone())
        assert torch.equal(output, expected)
        assert pre.shape == output.shape
        if name in RELU_STAGES:
            assert torch.equal(F.relu(pre), output)
            assert bool((pre < 0).any())
        if not network.has_preact:
            assert torch.equal(pre, output)
        x = output


@pytest.mark.parametrize("name", FAMILIES)
def test_batch_normalisation_before_the_activation(name: str) -> None:
    network = CIFAR_MODELS[name]()
    norms = [network.bn_before_relu(i) for i in range(len(network.feature_info))]
    if name in ("MobileNetV2", "ShuffleV2"):
        assert norms == [None] * len(norms)
        return
    assert all(isinstance(norm, nn.BatchNorm2d) for norm in norms)
    assert [n.num_features for n in norms if n] == [info["num_chs"] for info in network.feature_info]
    assert len({id(norm) for norm in norms}) == len(norms)


@torch.no_grad()
def test_wrn_preact_is_what_the_next_layer_normalises() -> None:
    network = seeded("wrn_16_2")
    x = network.run_stem(images())
    for i, bn in enumerate((network.block2.layer[0].bn1, network.block3.layer[0].bn1, network.bn1)):
        assert network.bn_before_relu(i) is bn
        x, pre = network.stage_with_preact(i, x)
        assert torch.equal(pre, bn(x))
    assert torch.equal(network.run_tail(x), F.relu(pre))


def test_wrn_preact_in_training_leaves_running_statistics_alone() -> None:
    network = CIFAR_MODELS["wrn_16_1"]().train()
    before = {k: v.clone() for k, v in network.block2.state_dict().items()}
    output, pre = network.stage_with_preact(0, network.run_stem(images().float()))
    assert all(torch.equal(v, before[k]) for k, v in network.block2.state_dict().items())
    assert torch.allclose(pre, network.block2.layer[0].bn1(output), atol=1e-6)


def test_wrn_dropout_acts_in_training_alone() -> None:
    network = CIFAR_MODELS["wrn_16_1"](drop_rate=0.5)
    x = images().float()
    assert torch.equal(network.eval()(x), network(x))
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_every_parameter(name: str) -> None:
    network = CIFAR_MODELS[name]().train()
    x = network.run_stem(images().float())
    loss = x.new_zeros(())
    for i in range(len(network.feature_info)):
        x, pre = network.stage_with_preact(i, x)
        loss = loss + pre.square().mean()
    loss = loss + network.forward_head(network.run_tail(x)).square().mean()
    loss.backward()
    assert [k for k, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("name", "std", "bias"), [("vgg8", 0.01, 0.0), ("MobileNetV2", 0.01, 0.0)])
def test_initial_classifier(name: str, std: float, bias: float) -> None:
    classifier = CIFAR_MODELS[name]().get_classifier()
    assert float(classifier.weight.detach().std()) == pytest.approx(std, rel=0.05)
    assert bool((classifier.bias == bias).all())


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_2", "vgg8", "ResNet18"])
def test_initial_convolutions_are_he_normal(name: str) -> None:
    for module in CIFAR_MODELS[name]().modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 20_000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
