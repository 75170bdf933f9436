"""A run as a file for other runtimes: it says what the student says, or it is not there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tiny_run import settings

import kdbench
from kdbench.bench.deployment import export, onnx_file, parity, program, student
from kdbench.bench.deployment.export import export_run
from kdbench.cli.main import main
from kdbench.config.load import load_config
from kdbench.errors import KdbenchError, ModelError

#: with a resize from the run's 8x8, to the next size and to a network's own
STUDENTS = {
    "small_cnn": {},
    "small_vit": {"STUDENT.INPUT_SIZE": 16},
    "timm:resnet18": {"STUDENT.INPUT_SIZE": 32},
}
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in onnx_file.PACKAGES), reason="needs kdbench[onnx]"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: kdbench.train(settings(folder, 1, **{"DISTILLER.STUDENT": name, **extra})).folder
        for name, extra in STUDENTS.items()
    }


def loaded(run):
    return student.load_student(run, load_config(f"{run}/config.yaml", purpose="read"))


def exported(run, kind, file, **options):
    return export_run(run, load_config(f"{run}/config.yaml", purpose="read"), kind, file, seconds=0.0, **options)


@pytest.mark.parametrize("name", STUDENTS)
def test_one_module_from_images_to_logits(runs, name):
    found = loaded(runs[name])
    module, images = found.deployable(), torch.rand(3, 3, 8, 8)
    assert module.resizes == (name != "small_cnn")
    torch.testing.assert_close(module(images), found.model(images).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(8, 16), (32, 9), (5, 5)])
def test_the_resize_is_that_of_a_network(old, new):
    images = torch.rand(2, 3, old, old)
    matrix = student._resize_matrix(old, new)
    expected = torch.nn.functional.interpolate(images, (new, new), mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(matrix @ images @ matrix.T, expected)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_program(runs, tmp_path, name):
    file = tmp_path / "student.pt2"
    found = exported(runs[name], "torch.export", file, batches=(1, 3))
    result = json.loads(Path(runs[name], "result.json").read_text())
    assert found.parity.top1 == found.parity.recorded_top1 == result["top1_last"]
    assert found.size == file.stat().st_size
    assert [one.batch for one in found.latencies] == [1, 3]
    extra = {program.ABOUT: ""}
    network = torch.export.load(file, extra_files=extra).module()
    about = json.loads(extra[program.ABOUT])
    assert about["classes"] == result["classes"]
    assert about["input_size"] == [3, 8, 8]
    images = torch.rand(7, 3, 8, 8)
    torch.testing.assert_close(network(images), loaded(runs[name]).model(images).logits, rtol=1e-4, atol=1e-4)


@needs_onnx
@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("older", [False, True])
def test_an_onnx_file(runs, tmp_path, name, older, monkeypatch):
    import onnxruntime

    if older:
        monkeypatch.setattr(onnx_file, "_follows_programs", lambda: False)
    file = tmp_path / "new" / "student.onnx"
    found = exported(runs[name], "onnx", file)
    assert found.runtime == f"onnxruntime {onnxruntime.__version__}"
    assert found.parity.difference <= parity.TOLERANCE
    assert [entry.name for entry in file.parent.iterdir()] == ["student.onnx"]
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (place,) = session.get_inputs()
    assert (place.name, place.shape[1:]) == ("images", [3, 8, 8])
    assert isinstance(place.shape[0], str)
    known = session.get_modelmeta().custom_metadata_map
    own = loaded(runs[name])
    assert json.loads(known["classes"]) == own.classes
    assert known["input"] == "RGB in [0, 1]"
    images = torch.rand(5, 3, 8, 8)
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), own.model(images).logits, rtol=1e-4, atol=1e-4)


def test_a_folder_for_timm(runs, tmp_path):
    timm = pytest.importorskip("timm", "1.0.16")
    folder = tmp_path / "student"
    exported(runs["timm:resnet18"], "timm", folder)
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    own = loaded(runs["timm:resnet18"])
    assert list(timm.data.resolve_model_data_config(network)["input_size"]) == [3, 32, 32]
    assert network.pretrained_cfg["label_names"] == own.classes
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(network((images - mean) / std), own.model(images).logits)
    exported(runs["timm:resnet18"], "timm", folder)  # again, over what is there
    assert sorted(entry.name for entry in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_what_timm_has_not_built(runs, tmp_path):
    with pytest.raises(ModelError, match="'small_cnn' is no network of timm's"):
        exported(runs["small_cnn"], "timm", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_file_that_differs_is_not_left(runs, tmp_path, monkeypatch):
    right = program.opened
    file = tmp_path / "student.pt2"
    file.write_text("what was there")
    wrongs = {
        "its outputs differ from PyTorch's by": lambda logits: logits + 3e-4,
        "outputs differ from PyTorch's by nan": lambda logits: logits * float("nan"),
        "its outputs have the shape": lambda logits: torch.cat((logits, logits), 1),
    }
    for words, wrong in wrongs.items():

        def opened(file, threads, wrong=wrong):
            return lambda images: wrong(right(file, threads)(images))

        monkeypatch.setattr(program, "opened", opened)
        with pytest.raises(KdbenchError, match=f"is not written: .*{words}"):
            exported(runs["small_cnn"], "torch.export", file)
        assert [entry.name for entry in tmp_path.iterdir()] == ["student.pt2"]
        assert file.read_text() == "what was there"


def test_accuracies_that_differ():
    fair = parity.Parity(70.0, 70.0, 70.0, 1e-6, 0, 1000)
    assert fair.fault() == ""
    assert "top-1 accuracy is 70.00 where PyTorch has 70.10" in parity.Parity(70.0, 70.1, 70.0, 0, 0, 1000).fault()
    assert "where the run has recorded 75.00" in parity.Parity(70.0, 70.0, 75.0, 0, 3, 1000).fault()
    assert parity.Parity(70.0, 70.1, 69.9, 0, 1, 1000).fault() == ""  # one image that rounding may turn over
    assert "nan" in parity.Parity(70.0, 70.0, 70.0, float("nan"), 0, 1000).fault()


def test_a_network_that_no_exporter_follows_and_one_that_is_changed(runs, tmp_path, monkeypatch):
    def forward(self, images):
        return self.model(images).logits * float(images.sum())

    monkeypatch.setattr(student.Deployable, "forward", forward)
    with pytest.raises(ModelError, match=r"torch\.export cannot follow small_cnn"):
        exported(runs["small_cnn"], "torch.export", tmp_path / "x.pt2")
    assert list(tmp_path.iterdir()) == []


def test_the_command(runs, tmp_path, capsys):
    file = tmp_path / "s.pt2"
    run = runs["small_cnn"]
    assert main(["export", run, "--to", "torch.export", "--out", str(file), "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == str(file)
    assert found["parity"]["images"] == 16
    assert [one["batch"] for one in found["latencies"]] == [1, 32]
    assert found["threads"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "onxx", "--out", "x.onnx"], "did you mean 'onnx'"),
        (["--to", "torch.export", "--out", "x.onnx"], "expects a name that ends in .pt2"),
        (["--to", "torch.export", "--out", "x.pt2", "--threads", "many"], "expects a whole number from 0 to 1024"),
        (["--to", "torch.export", "--out", "x.pt2", "NO.KEY=1"], "NO.KEY"),
    ],
)
def test_bad_words(runs, capsys, words, said):
    assert main(["export", runs["small_cnn"], *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_run_that_is_none_or_not_finished(runs, tmp_path, capsys):
    words = ["--to", "torch.export", "--out", str(tmp_path / "x.pt2")]
    assert main(["export", str(tmp_path), *words]) == 2
    assert "no config.yaml there" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_bytes(Path(runs["small_cnn"], "config.yaml").read_bytes())
    assert main(["export", str(tmp_path), *words]) == 2
    assert "finish the run first" in capsys.readouterr().err


def test_a_missing_package_is_named(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "PACKAGES", ("json", "no_such_package"))
    with pytest.raises(KdbenchError, match=r"no_such_package is not installed: pip install 'kdbench\[onnx\]'"):
        exported(runs["small_cnn"], "onnx", tmp_path / "x.onnx")


def test_a_place_that_cannot_be_written_and_images_that_cannot_be_read(runs, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(KdbenchError, match=r"x\.pt2 cannot be written: "):
        exported(runs["small_cnn"], "torch.export", tmp_path / "file" / "x.pt2")

    def unread(*args):
        raise OSError("the images are gone")

    monkeypatch.setattr(export, "compare", unread)
    with pytest.raises(OSError, match="the images are gone"):
        exported(runs["small_cnn"], "torch.export", tmp_path / "x.pt2")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
