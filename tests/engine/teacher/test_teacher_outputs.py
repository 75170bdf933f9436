"""What a method is given of its teacher: one object with one method, live, stored or shared."""

from __future__ import annotations

import types

import pytest
import torch

import kdbench
from kdbench.data.build import build_data
from kdbench.distillers.base import Batch
from kdbench.engine.parts import build_distiller, build_network, make_loader
from kdbench.engine.runtime import Runtime
from kdbench.engine.teacher.outputs import LiveOutputs, StoredOutputs, WholeNetwork
from kdbench.engine.teacher.source import TeacherSource

FAST = {"SOLVER.EPOCHS": 2, "SOLVER.WARMUP_EPOCHS": 0, "DATASET.REPEAT": 1, "DATASET.NUM_WORKERS": 0}


def given(tmp_path, teacher, method: str, cached: bool):
    settings = {"DISTILLER.TYPE": method, "DISTILLER.TEACHER": "small_mixer", "TEACHER.WEIGHTS": teacher}
    settings |= {"LOG.PREFIX": str(tmp_path), "CACHE.ENABLED": cached}
    cfg = kdbench.load_config("configs/digits/student.yaml", {**FAST, **settings})
    data, runtime = build_data(cfg), Runtime(torch.device("cpu"))
    source = TeacherSource(cfg, data, make_loader(cfg, data, runtime), runtime, "sha")
    student = build_network(cfg, "STUDENT", data, seed=1)
    distiller = build_distiller(cfg, student, source.spec, data)
    (channel,) = source.outputs_of([distiller], "run").values()
    return source, channel.outputs


@pytest.mark.parametrize(
    ("method", "cached", "kind"),
    [
        ("KD", False, LiveOutputs),
        ("KD", True, StoredOutputs),
        ("FitNet", True, LiveOutputs),
    ],
)
def test_whoever_asks_sees_one_object(tmp_path, digits_teacher, method, cached, kind):
    source, outputs = given(tmp_path, digits_teacher, method, cached)
    assert type(outputs) is kind
    outputs.start(1)
    first = next(iter(source.loader.epoch(1)))
    batch = Batch(first.images, first.target, first.index, first.draw)
    output = outputs(batch)
    assert output.logits.shape == (len(batch.images), 10)
    assert not output.logits.requires_grad
    outputs.end()


def test_a_method_that_runs_parts_of_the_network_is_given_the_network(tmp_path, digits_teacher):
    source, _ = given(tmp_path, digits_teacher, "KD", True)
    channels = source.outputs_of([types.SimpleNamespace(needs_networks=True)], "run")
    assert list(channels) == ["network"]
    outputs = channels["network"].outputs
    assert type(outputs) is WholeNetwork
    assert outputs(None) is source.network


def test_stored_outputs_are_the_live_ones_of_the_run_that_filled(tmp_path, digits_teacher):
    batches, found = [], []
    for _ in range(2):
        source, outputs = given(tmp_path, digits_teacher, "KD", True)
        outputs.start(1)
        for loaded in source.loader.epoch(1):
            batch = Batch(loaded.images, loaded.target, loaded.index, loaded.draw)
            batches.append(batch)
            found.append(outputs(batch).logits)
        outputs.end()
    half = len(found) // 2
    assert all(torch.equal(a, b) for a, b in zip(found[:half], found[half:]))
    _, live = given(tmp_path, digits_teacher, "KD", False)
    assert torch.equal(live(batches[0]).logits.half().float(), found[0])
