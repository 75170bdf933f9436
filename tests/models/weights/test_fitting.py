"""Loading a state dict into a network: all of it or nothing, and an error that says what the file is."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from kdbench.errors import ModelError
from kdbench.models.networks.cifar import CIFAR_MODELS
from kdbench.models.networks.paper_names import OWN, PAPER
from kdbench.models.registry import models
from kdbench.models.weights.fit import identify, load_into

FC = ("fc.weight", "fc.bias")


def build(name: str, num_classes: int = 10) -> nn.Module:
    return CIFAR_MODELS[name](num_classes=num_classes)


def copy_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(module: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    found = module.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[key], value) for key, value in state.items())


def refusal(module: nn.Module, state: dict[str, torch.Tensor], head: str = "strict") -> str:
    """The error's line; the module must not have changed."""
    before = copy_of(module)
    with pytest.raises(ModelError) as caught:
        load_into(module, state, source="w.pth", head=head, classifier_keys=FC)
    assert same(module, before)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("head", ["strict", "reset"])
def test_a_fitting_file_is_loaded_whole(head: str) -> None:
    state = copy_of(build("resnet8"))
    network = build("resnet8")
    assert load_into(network, state, source="w.pth", head=head, classifier_keys=FC) == []
    assert same(network, state)


def test_half_precision_and_absent_counters() -> None:
    state = copy_of(build("resnet8"))
    old = {k: v.half() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    network = build("resnet8")
    load_into(network, old, source="w.pth", classifier_keys=FC)
    assert network.conv1.weight.dtype == torch.float32
    assert torch.equal(network.conv1.weight, state["conv1.weight"].half().float())


def test_counters_of_batches_are_loaded() -> None:
    state = copy_of(build("resnet8"))
    state["bn1.num_batches_tracked"] += 5
    network = build("resnet8")
    load_into(network, state, source="w.pth", classifier_keys=FC)
    assert int(network.bn1.num_batches_tracked) == 5


def test_whole_numbers_are_no_weights() -> None:
    state = copy_of(build("resnet8"))
    state["conv1.weight"] = (state["conv1.weight"] * 100).to(torch.int8)
    assert "tensor 'conv1.weight' is of whole numbers (int8); expected floating-point" in refusal(
        build("resnet8"), state
    )
    state = copy_of(build("resnet8"))
    state["bn1.num_batches_tracked"] = torch.zeros(3)
    assert "bn1.num_batches_tracked [3] is of another shape; expected []" in refusal(build("resnet8"), state)
    state["bn1.num_batches_tracked"] = torch.tensor([7])
    network = build("resnet8")
    load_into(network, state, source="w.pth", classifier_keys=FC)
    assert int(network.bn1.num_batches_tracked) == 7


def test_another_width_of_the_classifier() -> None:
    state = copy_of(build("resnet8", 100))
    message = refusal(build("resnet8", 10), state)
    for part in ("w.pth", "fc.weight [100, 64] for [10, 64]", "HEAD: reset"):
        assert part in message
    network = build("resnet8", 10)
    fresh = copy_of(network)
    assert load_into(network, state, source="w.pth", head="reset", classifier_keys=FC) == list(FC)
    assert torch.equal(network.fc.weight, fresh["fc.weight"])
    assert torch.equal(network.fc.bias, fresh["fc.bias"])
    assert torch.equal(network.conv1.weight, state["conv1.weight"])


def test_a_file_without_classifier() -> None:
    state = {k: v for k, v in copy_of(build("resnet8")).items() if k not in FC}
    assert "holds no classifier (fc.weight [10, 64]); HEAD: reset" in refusal(build("resnet8"), state)
    assert load_into(build("resnet8"), state, source="w.pth", head="reset", classifier_keys=FC) == list(FC)


def test_a_network_without_classifier() -> None:
    network = build("resnet8")
    state = copy_of(network)
    network.fc = nn.Identity()
    assert "this network has none; HEAD: reset" in refusal(network, state)
    assert load_into(network, state, source="w.pth", head="reset", classifier_keys=FC) == list(FC)


def test_a_file_of_another_network_says_what_it_looks_like() -> None:
    message = refusal(build("resnet8"), copy_of(build("vgg8", 100)))
    assert message.startswith("w.pth fits no tensor of this network")
    assert message.endswith("the file looks like vgg8")
    message = refusal(build("resnet8x4"), copy_of(build("resnet20", 100)), head="reset")
    assert "missing (layer1.0.downsample.0.weight, " in message
    assert "of another shape (conv1.weight [16, 3, 3, 3] for [32, 3, 3, 3], " in message
    assert message.endswith("the file looks like resnet20")


def test_a_nearly_fitting_file_is_not_half_loaded() -> None:
    state = copy_of(build("resnet8"))
    state["extra.weight"] = state.pop("layer3.0.bn2.bias")
    state["layer1.0.conv1.weight"] = torch.zeros(1, 16, 3, 3)
    message = refusal(build("resnet8"), state, head="reset")
    for part in (
        "1 missing (layer3.0.bn2.bias)",
        "1 unexpected (extra.weight)",
        "1 of another shape (layer1.0.conv1.weight [1, 16, 3, 3] for [16, 16, 3, 3])",
    ):
        assert part in message


def test_unknown_files_and_options() -> None:
    message = refusal(build("resnet8"), {"encoder.w": torch.ones(2)})
    assert message.startswith("w.pth fits no tensor of this network: it holds encoder.w, ")
    assert message.endswith("the network has conv1.weight, bn1.weight, bn1.bias, ...")
    with pytest.raises(
        ModelError, match=r"HEAD: 'rest' is unknown, expected one of strict, reset .did you mean 'reset'"
    ):
        load_into(build("resnet8"), {}, source="w.pth", head="rest", classifier_keys=FC)


@pytest.mark.parametrize("name", CIFAR_MODELS)
def test_every_network_of_ours_is_recognised(name: str) -> None:
    with torch.device("meta"):
        assert identify(CIFAR_MODELS[name](num_classes=37).state_dict()) == name


@pytest.mark.parametrize("name", [*PAPER, *OWN])
def test_networks_of_the_tables_are_recognised(name: str) -> None:
    expected = f"timm:{PAPER[name].tag.partition('.')[0]}" if name in PAPER else name
    with torch.device("meta"):
        assert identify(models.get(name).build(num_classes=37).state_dict()) == expected
        if name in PAPER:
            assert identify(timm.create_model(expected[5:], num_classes=0).state_dict()) == expected


def test_another_input_size_is_still_recognised_and_strangers_are_not() -> None:
    with torch.device("meta"):
        larger = timm.create_model("vit_small_patch16_224", img_size=384).state_dict()
        stranger = timm.create_model("ghostnet_100").state_dict()
    assert identify(larger) == "timm:vit_small_patch16_224"
    assert identify(stranger) is None
    assert identify({}) is None


def test_looking_a_file_up_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    identify({"w": torch.ones(1)})
    assert torch.equal(torch.get_rng_state(), before)
