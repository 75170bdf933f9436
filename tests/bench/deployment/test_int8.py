"""Files of 8 bits: calibrated on training images, smaller, and measured."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from tiny_run import settings

import kdbench
from kdbench.bench.deployment import int8, onnx_file
from kdbench.bench.deployment.student import load_student
from kdbench.cli.main import main
from kdbench.config.load import load_config

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in onnx_file.PACKAGES), reason="needs kdbench[onnx]"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return kdbench.train(settings(tmp_path_factory.mktemp("runs"), 1)).folder


def loaded(run):
    return load_student(run, load_config(f"{run}/config.yaml", purpose="read"))


@pytest.mark.parametrize(("count", "images"), [(256, 48), (16, 16), (20, 24)])
def test_calibration_is_spread_over_the_training_set(run, monkeypatch, count, images):
    monkeypatch.setattr(int8, "CALIBRATION", count)
    student = loaded(run)
    found = torch.cat(list(int8.calibration_batches(student)))
    assert found.shape == (images, 3, 8, 8)
    step = 48 // images
    everything = student.data.train.fetch(torch.arange(0, 48, step))
    torch.testing.assert_close(found, everything / 255 if everything.dtype == torch.uint8 else everything)


@needs_onnx
def test_the_command(run, tmp_path, capsys):
    import onnx

    sizes = {}
    for name, words in {"float.onnx": [], "int8.onnx": ["--int8"]}.items():
        file = tmp_path / name
        assert main(["export", run, "--to", "onnx", "--out", str(file), "--json", *words]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["size"] == file.stat().st_size
        sizes[name] = found["size"]
        assert (found["int8_top1"] is not None) == bool(words)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["float.onnx", "int8.onnx"]
    assert sizes["int8.onnx"] < sizes["float.onnx"]
    model = onnx.load(str(tmp_path / "int8.onnx"))
    assert "QuantizeLinear" in {node.op_type for node in model.graph.node}
    known = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(known["classes"]) == loaded(run).classes
    assert known["quantisation"].startswith("int8")
    images = torch.rand(3, 3, 8, 8)
    logits = onnx_file.opened(tmp_path / "int8.onnx", 1)(images)
    expected = loaded(run).model(images).logits
    assert logits.shape == expected.shape
    assert float((logits - expected).abs().max()) < 0.1 * max(1.0, float(expected.abs().max()))


def test_only_onnx_has_8_bits(run, tmp_path, capsys):
    assert main(["export", run, "--to", "torch.export", "--int8", "--out", str(tmp_path / "x.pt2")]) == 2
    assert "--int8 is of --to onnx, not of --to torch.export" in capsys.readouterr().err
