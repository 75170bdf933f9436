"""Releases of published weights: known by name, without building or fetching anything."""

from __future__ import annotations

import pytest
import timm
import torchvision

from kdbench.errors import UnknownNameError
from kdbench.models.names import canonical_name
from kdbench.models.weights.published import published_release
from kdbench.models.weights.read import state_sha256
from kdbench.models.zoo import create_model


@pytest.fixture(autouse=True)
def _builds_nothing(monkeypatch, request):
    if "state" not in request.node.name:
        monkeypatch.setattr(timm, "create_model", lambda *a, **k: pytest.fail("a network was built"))


def test_the_whole_tag_and_where_it_comes_from():
    assert published_release("timm:resnet50").split()[:4] == [
        "timm",
        timm.__version__,
        "resnet50.a1_in1k",
        "timm/resnet50.a1_in1k",
    ]
    assert published_release("timm:resnet50") != published_release("timm:resnet50.tv_in1k")
    assert published_release("Swin-T") == published_release("timm:swin_tiny_patch4_window7_224.ms_in1k")
    assert "ResNet50_Weights.IMAGENET1K_V2 https://" in published_release("torchvision:resnet50")
    assert "shufflenetv2" in published_release("ShuffleNetV2")
    with pytest.raises(UnknownNameError):
        published_release("resnet21")


def test_a_name_of_two_networks():
    assert "resnet18.a1_in1k" in published_release("ResNet18", 224)
    assert "a1_in1k" not in published_release("ResNet18", 32)


def test_releases_change_with_the_library_and_not_with_its_build(monkeypatch):
    before = published_release("torchvision:resnet50")
    monkeypatch.setattr(torchvision, "__version__", torchvision.__version__.partition("+")[0] + "+other")
    assert published_release("torchvision:resnet50") == before
    monkeypatch.setattr(timm, "__version__", "99.0")
    assert "99.0" in published_release("timm:resnet50")


def test_hash_of_a_state():
    one, two = (create_model("small_cnn", num_classes=4, seed=seed).backbone for seed in (1, 2))
    assert state_sha256(one.state_dict()) != state_sha256(two.state_dict())
    assert state_sha256(dict(reversed(one.state_dict().items()))) == state_sha256(one.state_dict())
    assert len(state_sha256(one.bfloat16().state_dict())) == 64


def test_names_as_they_were_registered():
    names = {
        "SMALL_CNN": "small_cnn",
        "swin-t": "Swin-T",
        "CIFAR:resnet20": "CIFAR:resnet20",
        "nothing": "nothing",
        "": "",
    }
    assert {name: canonical_name(name) for name in names} == names
    assert canonical_name("cifar:RESNET20") == "cifar:resnet20"
    assert canonical_name("timm:ResNet50") == "timm:ResNet50"
