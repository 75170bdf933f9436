"""A teacher's classifier, from the network or beside its cached outputs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import content, settings

import kdbench
from kdbench.engine.teacher import source as sources
from kdbench.engine.teacher.classifier import NAME
from kdbench.errors import IncompatibleError, ModelError

TAUGHT = {"DISTILLER.TYPE": "SRRL", "DISTILLER.TEACHER": "small_mixer"}


def cached(folder, seed: int = 1, **extra):
    same = {"DATASET.AUG_SEED": 1, "CACHE.ENABLED": True, "CACHE.DTYPE": "fp32", "CACHE.DIR": str(folder / "cache")}
    return settings(folder / "runs", 2, **{**TAUGHT, **same, "EXPERIMENT.SEED": seed, **extra})


def kept(folder) -> Path:
    (file,) = (folder / "cache").rglob(NAME)
    return file


def test_filling_reading_and_live_runs_are_the_same_run(tmp_path, monkeypatch):
    live = content(kdbench.train(settings(tmp_path / "live", 2, **TAUGHT)).folder)
    assert content(kdbench.train(cached(tmp_path)).folder) == live
    kdbench.train(cached(tmp_path, seed=2, **{"DISTILLER.TYPE": "KD"}))

    def none(*_):
        raise AssertionError("the teacher is built")

    monkeypatch.setattr(sources, "build_teacher", none)
    (tmp_path / "runs").rename(tmp_path / "first")
    assert content(kdbench.train(cached(tmp_path)).folder) == live


def test_half_precision_of_the_cache_does_not_round_it(tmp_path):
    kdbench.train(cached(tmp_path, **{"CACHE.DTYPE": "fp16"}))
    cfg = cached(tmp_path)
    teacher = sources.build_teacher(cfg, kdbench.data.build.build_data(cfg))
    assert torch.equal(load_file(kept(tmp_path))["weight"], teacher.classifier()[0])


@pytest.mark.parametrize("damage", ["values", "shape", "bytes"])
def test_a_damaged_file_is_told_and_the_network_asked(tmp_path, caplog, damage):
    live = content(kdbench.train(cached(tmp_path)).folder)
    file = kept(tmp_path)
    state = load_file(file)
    if damage == "bytes":
        file.write_bytes(file.read_bytes()[:40])
    else:
        state["bias"] = state["bias"] + 1 if damage == "values" else state["bias"][:2].clone()
        save_file(state, file)
    (tmp_path / "runs").rename(tmp_path / "first")
    with caplog.at_level(logging.WARNING, logger="kdbench"):
        assert content(kdbench.train(cached(tmp_path)).folder) == live
    assert any("damaged; the teacher is asked anew" in line for line in caplog.messages)


def test_networks_without_a_plain_classifier_are_refused():
    class Cosine(torch.nn.Linear):
        def forward(self, x):
            return torch.nn.functional.normalize(x) @ self.weight.T

    teacher = kdbench.create_model("small_cnn", num_classes=4, input_size=8, seed=2)
    with torch.no_grad():
        network = teacher.backbone
        network.fc = Cosine(teacher.spec.penultimate, 4)
    changed = kdbench.models.feature_model.model.FeatureModel(
        network, name="cosine", family="cnn", num_classes=4, input_size=(8, 8)
    )
    with pytest.raises(ModelError, match="no classifier that is one plain linear layer"):
        changed.classifier()
    for method in ("SRRL", "SIMKD"):
        with pytest.raises(IncompatibleError, match="the teacher cosine gives no classifier"):
            kdbench.create_distiller(method, teacher, changed)


def test_a_classifier_without_bias_has_zeros():
    network = kdbench.create_model("small_cnn", num_classes=4, input_size=8, seed=2)
    network.backbone.get_classifier().bias = None
    weight, bias = network.classifier()
    output = network(torch.rand(2, 3, 8, 8), need={"classifier"})
    assert torch.equal(bias, torch.zeros(4))
    torch.testing.assert_close(output.logits, output.penultimate @ weight.T)
    assert output.classifier[0] is not network.backbone.get_classifier().weight
