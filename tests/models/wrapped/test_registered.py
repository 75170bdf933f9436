"""A registered builder may return any module, or a network that is wrapped already."""

from __future__ import annotations

import pytest
import torch
from fake_cuda import supported
from plain_network import Plain
from torch import nn

import kdbench
from kdbench.bench.methods.device import check_device
from kdbench.errors import ModelError
from kdbench.models.describe import describe, describe_all
from kdbench.models.registry import models

OWN = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def register():
    names = []

    def add(build, **options):
        names.append(f"own_net_{len(names)}")
        kdbench.register_model(names[-1], **{"family": "cnn", "input_size": 16, **options})(build)
        return names[-1]

    yield add
    for name in names:
        models.remove(name)


def plain(num_classes, channels=3):
    """A first network."""
    return Plain(num_classes, channels)


def wrapped(num_classes):
    return kdbench.wrap_model(
        Plain(num_classes), num_classes=num_classes, input_size=12, stages=["conv3"], statistics=OWN
    )


def test_a_plain_module_by_name(register):
    model = kdbench.create_model(register(plain), num_classes=5, seed=3)
    assert model.backbone.stage_names == ["conv2", "conv3"]
    assert list(model.backbone.state_dict()) == list(Plain().state_dict())
    named = kdbench.create_model(register(plain, stages=["conv1", "conv3"], classifier="fc"), num_classes=5)
    assert [stage.channels for stage in named.spec.stages] == [8, 32]
    assert kdbench.create_model(register(plain, stages=[]), num_classes=5).spec.stages == ()


def test_weights_are_those_of_seed_and_name(register):
    name = register(plain)
    one, two = (kdbench.create_model(name, num_classes=5, seed=3).backbone.state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_statistics_of_the_registration_go_before_the_data_sets(register):
    name = register(plain, statistics=OWN)
    data = ((0.1,) * 3, (0.9,) * 3)
    assert kdbench.create_model(name, num_classes=5, data_statistics=data).statistics == OWN
    assert kdbench.create_model(name, num_classes=5, data_statistics=data, norm="dataset").statistics == data
    assert kdbench.create_model(register(plain), num_classes=5, data_statistics=data).statistics == data


def test_a_wrapped_network_keeps_its_size_statistics_and_stages(register):
    name = register(wrapped)
    model = kdbench.create_model(name, num_classes=5, data_size=32, data_statistics=((0.1,) * 3, (0.9,) * 3))
    assert (model.input_size, model.statistics, len(model.spec.stages)) == ((12, 12), OWN, 1)
    assert kdbench.create_model(name, num_classes=5, input_size=20).input_size == (20, 20)


def test_a_network_of_the_zoo_may_be_returned(register):
    name = register(lambda num_classes: kdbench.create_model("resnet20", num_classes=num_classes))
    ours = kdbench.create_model("resnet20", num_classes=5)
    model = kdbench.create_model(name, num_classes=5)
    assert model.spec.stages == ours.spec.stages
    assert model.spec.provides == ours.spec.provides


@pytest.mark.parametrize(
    ("build", "options", "told"),
    [
        (lambda num_classes: wrapped(num_classes + 1), {}, "built for 6 classes, not 5"),
        (lambda num_classes: wrapped(num_classes), {"classifier": "fc"}, "is a FeatureModel already"),
        (lambda num_classes: "resnet", {}, "returns a str, expects a module"),
        (lambda num_classes: Plain(num_classes), {"stages": ["convx"]}, "no submodule 'convx'.*did you mean 'conv"),
        (lambda num_classes: nn.Conv2d(3, num_classes, 1), {}, r"returns \(2, 5, 16, 16\), expects \(B, 5\) logits"),
    ],
)
def test_what_is_refused(register, build, options, told):
    with pytest.raises(ModelError, match=told):
        kdbench.create_model(register(build, **options), num_classes=5)


@pytest.mark.parametrize("options", [{"statistics": (1, 2)}, {"stages": "conv1"}, {"family": "rnn"}])
def test_declarations_that_mean_nothing(options):
    with pytest.raises(ModelError, match="own_never"):
        kdbench.register_model("own_never", **{"family": "cnn", **options})
    assert "own_never" not in models


def test_lists_show_the_stages_by_name(register):
    row = describe(register(plain))
    assert row["stages"] == ["conv2 16x8x8", "conv3 32x4x4"]
    assert row["about"] == "A first network."


def test_one_that_cannot_be_built_does_not_hide_the_others(register):
    fixed = register(lambda num_classes: Plain(5))
    rows = {row["name"]: row for row in describe_all()}
    assert "returns (2, 5), expects (B, 100) logits" in rows[fixed]["stages"][0]
    assert rows["resnet20"]["params"] > 0
    with pytest.raises(ModelError, match=r"expects \(B, 100\) logits"):
        describe_all(strict=True)


@pytest.mark.parametrize("build", [plain, wrapped])
def test_how_statistics_are_spelled_follows_what_auto_takes(register, build):
    """``NORM: dataset`` is ``auto`` for a fresh network, and another thing for one that brings its own statistics."""
    from kdbench.data.build import build_data
    from kdbench.engine.session.locate import locate

    name = register(build)

    def folder(norm):
        cfg = kdbench.load_config(
            overrides={
                "DATASET.TYPE": "digits",
                "DISTILLER.STUDENT": name,
                "STUDENT.NORM": norm,
                "LOG.PREFIX": "unused",
            }
        )
        return locate(cfg, build_data(cfg)).folder.path.name

    assert (folder("auto") == folder("dataset")) == (build is plain)
    assert (folder("auto") == folder("inception")) is False
    assert (folder("auto") == folder(OWN)) == (build is wrapped)


@pytest.mark.parametrize("method", ["FITNET", "KD", "AT"])
@pytest.mark.parametrize("channels", [1, 3])
def test_on_a_gpu_the_host_waits_for_nothing(register, method, channels):
    if not supported():
        pytest.skip("this PyTorch makes no tensors of a GPU without a driver")
    own = {"own": (register(plain), {"channels": channels})}
    assert check_device(method, "own", "own", models=own) == "runs"
