"""``kdbench init``: what it writes runs as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import kdbench
from kdbench.bench.grids.grid_file import load_grid
from kdbench.cli.main import main
from kdbench.distillers.base import distillers
from kdbench.errors import ConfigError, KdbenchError, StorageError
from kdbench.models.registry import models
from kdbench.scaffold import files as files_module
from kdbench.scaffold.project import new_project


@pytest.fixture(autouse=True)
def _no_method_of_another_folder():
    yield
    distillers.remove("mine")


def test_it_runs_as_it_is(tmp_path):
    new_project(tmp_path / "mine")

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "kdbench", *words],
            cwd=tmp_path / "mine",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    short = ["SOLVER.EPOCHS=2", "SOLVER.WARMUP_EPOCHS=1", "TEACHER.FLOOR=0"]
    done = run("grid", "grid.yaml", *short)
    assert "no effect" not in done.stderr
    table = run("table", "runs/mine").stdout
    assert all(name in table for name in ("Vanilla", "KD", "DKD", "MINE", "MINE strong"))


@pytest.mark.parametrize("data", ["digits", "cifar100", "imagenet", "fake", "folder:some/images"])
def test_every_configuration_is_one(tmp_path, data, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    new_project("mine", data=data)
    for name in ("student.yaml", "teacher.yaml"):
        caplog.clear()
        cfg = kdbench.load_config(f"mine/{name}", purpose="train")
        assert caplog.messages == []
        expected = f"folder:{tmp_path}/some/images" if data.startswith("folder") else data
        assert expected == cfg.DATASET.TYPE
    grid = load_grid("mine/grid.yaml")
    assert len(grid.cells) == 15
    assert grid.imports == (str(tmp_path / "mine" / "my_method.py"),)


def test_folders_of_small_images_and_imports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "val"):
        for label in ("a", "b"):
            place = tmp_path / "images" / part / label
            place.mkdir(parents=True)
            Image.new("RGB", (20, 16)).save(place / "1.png")
    (tmp_path / "my_net.py").write_text(
        "import kdbench\nfrom torch import nn\n\n\n@kdbench.register_model('tiny_init_net', family='cnn')\n"
        "def net(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(768, num_classes))\n"
    )
    words = ["init", "mine", "--import", "my_net.py", "--data", "folder:images", "--student", "tiny_init_net"]
    try:
        assert main(words) == 0
        cfg = kdbench.load_config("mine/student.yaml", purpose="train")
        assert (cfg.DATASET.IMAGE_SIZE, cfg.AUGMENT.CROP, cfg.AUGMENT.PAD, cfg.AUGMENT.CROP_PCT) == (16, "pad", 2, 1.0)
        assert kdbench.load_config("mine/teacher.yaml").DISTILLER.STUDENT == "resnet56"
        grid = load_grid("mine/grid.yaml")
        assert {Path(name).name for name in grid.imports} == {"my_method.py", "my_net.py"}
        assert grid.cells[0].cfg.DISTILLER.STUDENT == "tiny_init_net"
    finally:
        models.remove("tiny_init_net")


def test_names_are_checked_and_nothing_is_written_over(tmp_path, capsys):
    folder = tmp_path / "mine"
    assert main(["init", str(folder), "--data", "cifer100"]) == 2
    assert "did you mean 'cifar100'?" in capsys.readouterr().err
    assert main(["init", str(folder), "--data", "folder:"]) == 2
    assert main(["init", str(folder), "--student", "resnet1O"]) == 2
    assert not folder.exists()
    folder.mkdir()
    (folder / "grid.yaml").write_text("mine")
    assert main(["init", str(folder)]) == 2
    assert "is there already, and is not written over" in capsys.readouterr().err
    assert [file.name for file in folder.iterdir()] == ["grid.yaml"]
    assert main(["init", str(tmp_path / "other"), "--student", "resnet20", "--teacher", "resnet56"]) == 0
    assert "next: cd " in capsys.readouterr().out
    assert "STUDENT: resnet20" in (tmp_path / "other" / "student.yaml").read_text()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(StorageError) as caught:
        new_project("/proc/nowhere")
    assert "cannot be written" in str(caught.value)
    assert "goes on" not in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        new_project(tmp_path / "file")
    real, calls = files_module.stored, []

    def failing(path, **options):
        calls.append(path)
        if len(calls) == 3:
            raise StorageError(f"{path} cannot be written")
        return real(path, **options)

    monkeypatch.setattr(files_module, "stored", failing)
    with pytest.raises(KdbenchError):
        new_project(tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_names_that_mean_something_in_yaml(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new_project("odd", data="folder:a: b #c")
    assert f"folder:{tmp_path}/a: b #c" == kdbench.load_config("odd/student.yaml").DATASET.TYPE
    with pytest.raises(ConfigError):
        new_project("odd")
