"""Networks and data as objects: the same run where they are the same, another one where anything of them is another."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_network import Plain
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import TensorDataset

import kdbench
from kdbench.data.build import build_data
from kdbench.data.sets.builtin import digits
from kdbench.data.source import Standard
from kdbench.engine.session.handed import handed_over, object_digest
from kdbench.engine.session.locate import locate
from kdbench.errors import ConfigError, DataError, ModelError, UnknownNameError
from kdbench.models.registry import GIVEN

FEW = {"SOLVER.EPOCHS": 1, "SOLVER.BATCH_SIZE": 16, "SOLVER.WARMUP_EPOCHS": 0, "DATASET.NUM_WORKERS": 0}


def data(seed: int = 0) -> kdbench.DataSource:
    images = np.random.default_rng(seed).integers(0, 256, (48, 16, 16, 3), dtype=np.uint8)
    source = kdbench.data_from_arrays(images, np.arange(48) % 3, images[:12], np.arange(12) % 3)
    source.gate = False
    return source


def network(seed: int = 0, **options) -> Plain:
    torch.manual_seed(seed)
    return Plain(3, **options)


def config(folder, **more):
    return kdbench.load_config(overrides={**FEW, "LOG.PREFIX": str(folder), **more})


def test_a_run_of_objects_is_found_again_and_changes_none(tmp_path):
    student, teacher = network(0), kdbench.wrap_model(network(1), num_classes=3, input_size=16)
    before = [copy.deepcopy(one.state_dict()) for one in (student, teacher)]
    hooks = len(student.conv2._forward_hooks)
    cfg = config(tmp_path, **{"DISTILLER.TYPE": "FITNET"})
    result = kdbench.train(cfg, student=student, teacher=teacher, data=data())
    for one, state in zip((student, teacher), before):
        assert all(torch.equal(one.state_dict()[key], value) for key, value in state.items())
        assert one.training
    assert len(student.conv2._forward_hooks) == hooks
    assert not GIVEN
    stamp = (Path(result.folder) / "result.json").stat().st_mtime_ns
    again = kdbench.train(cfg, student=network(0), teacher=teacher, data=data())
    assert again.folder == result.folder
    assert (Path(result.folder) / "result.json").stat().st_mtime_ns == stamp
    trained = load_file(Path(result.folder) / "student.safetensors")
    student.load_state_dict(trained)
    assert not torch.equal(student.fc.weight, before[0]["fc.weight"])
    assert kdbench.load_results(tmp_path).iloc[0]["student"].startswith("given:Plain-")


def test_it_starts_from_the_objects_weights_and_goes_on(tmp_path):
    """Interrupted between epochs, and resumed with an equal object: the bytes of an undisturbed run."""
    folders = []
    for name in ("whole", "parts"):
        cfg = config(tmp_path / name, **{"SOLVER.EPOCHS": 2})

        def stop(epoch, step, steps):
            if epoch == 2:
                raise KeyboardInterrupt

        if name == "parts":
            with pytest.raises(KeyboardInterrupt):
                kdbench.train(cfg, student=network(), data=data(), progress=stop)
        folders.append(Path(kdbench.train(cfg, student=network(), data=data()).folder))
    for file in ("metrics.jsonl", "student.safetensors"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_torch_data_sets_and_a_teacher_that_passes(tmp_path):
    torch.manual_seed(0)
    found = digits()
    sets = [TensorDataset(part.images[:, :1].float() / 255, part.labels) for part in (found.train, found.test)]
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    cfg = config(tmp_path, **{"SOLVER.EPOCHS": 4, "SOLVER.LR": 0.1})
    own = kdbench.train(cfg, student=kdbench.wrap_model(Grey(teacher), num_classes=10, input_size=8), data=sets)
    teacher.load_state_dict(
        {key.removeprefix("body."): v for key, v in load_file(Path(own.folder) / "student.safetensors").items()}
    )
    cfg = config(tmp_path, **{"DISTILLER.TYPE": "KD", "DISTILLER.STUDENT": "small_cnn", "TEACHER.NORM": "none"})
    result = kdbench.train(cfg, teacher=Grey(teacher), data=sets)
    assert result.teacher_top1 > 60
    assert len(result.teacher_sha256) == 64


class Grey(nn.Module):
    """A perceptron that reads one channel."""

    in_channels = 1

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)


def changed(make):
    one = network()
    make(one)
    return one


@pytest.mark.parametrize(
    "make",
    [
        lambda one: one.fc.weight.data.add_(1e-3),
        lambda one: one.fc.requires_grad_(False),
        lambda one: setattr(one, "scale", 2.0),
        lambda one: setattr(one, "conv2", nn.Conv2d(8, 16, 3, padding=1, stride=2)),
        lambda one: one.register_buffer("hidden", torch.ones(1), persistent=False),
    ],
    ids=["weights", "frozen", "attribute", "stride", "buffer"],
)
def test_another_object_is_another_run(make):
    assert object_digest(changed(make)) != object_digest(network())


def test_modes_and_copies_are_the_same_object():
    one = network()
    assert object_digest(copy.deepcopy(one).eval()) == object_digest(one)
    faces = [
        kdbench.wrap_model(network(), num_classes=3, input_size=size, statistics=((mean,) * 3, (1.0,) * 3))
        for size, mean in ((16, 0.0), (16, 0.5), (12, 0.0))
    ]
    assert len({object_digest(face) for face in faces}) == 3


def test_the_code_of_its_classes_counts():
    from kdbench.engine.identity.code import code_of

    with handed_over(config("unused"), student=network(), data=data()) as cfg:
        assert any("plain_network" in name for name in code_of(cfg).brought)


def test_other_images_are_another_run(tmp_path):
    names = set()
    for seed in (0, 1):
        result = kdbench.train(config(tmp_path), student=network(), data=data(seed))
        names.add(result.folder)
    assert len(names) == 2


@pytest.mark.parametrize(
    "change",
    [{"statistics": ((0.1,) * 3, (0.2,) * 3)}, {"classes": ["x", "y", "z"]}, {"standard": Standard(pad=1)}],
    ids=["statistics", "classes", "standard"],
)
def test_what_is_known_of_the_images_is_part_of_the_run(change):
    with handed_over(config("unused"), student=network(), data=data()) as plain:
        before = locate(plain, build_data(plain)).folder.path.name
    with handed_over(config("unused"), student=network(), data=data()) as same:
        assert locate(same, build_data(same)).folder.path.name == before
    with handed_over(config("unused"), student=network(), data=replace(data(), **change)) as other:
        assert locate(other, build_data(other)).folder.path.name != before


@pytest.mark.parametrize(
    ("objects", "error", "told"),
    [
        ({"student": "resnet20"}, ConfigError, "student=: expects a module.*a name is DISTILLER.STUDENT"),
        ({"student": network(), "data": 3}, ConfigError, "data=: expects a kdbench.DataSource"),
        ({"student": network(), "data": ([], [])}, DataError, "has no items"),
        (
            {"student": network(), "teacher": network(1), "data": data()},
            ModelError,
            "the teacher, a Plain, does not say how its input is normalised; set TEACHER.NORM",
        ),
        ({"student": Plain(7), "data": data()}, ModelError, r"returns \(2, 7\), expects \(B, 3\) logits"),
    ],
)
def test_what_is_refused(tmp_path, objects, error, told):
    with pytest.raises(error, match=told) as raised:
        kdbench.train(config(tmp_path, **{"DISTILLER.TYPE": "KD" if "teacher" in objects else "NONE"}), **objects)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.rglob("result.json"))
    assert not GIVEN


def test_a_name_of_an_object_that_is_gone(tmp_path):
    result = kdbench.train(config(tmp_path), student=network(), data=data())
    stored = kdbench.load_config(Path(result.folder) / "config.yaml")
    with pytest.raises(DataError, match="was handed over as an object"):
        kdbench.evaluate(stored, weights=str(Path(result.folder) / "student.safetensors"))
    with pytest.raises(UnknownNameError, match="was handed over as an object"):
        kdbench.create_model(stored.DISTILLER.STUDENT, num_classes=3)
