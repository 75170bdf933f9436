"""Every path means what a shell user expects, and a run's name does not lead out of its folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import kdbench
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.main import main
from kdbench.data.teacher_cache.cache import cache_root
from kdbench.errors import ConfigError, KdbenchError
from kdbench.models.weights.read import file_sha256
from kdbench.paths import beside, expanded

STUDENT = Path("configs/digits/student.yaml").resolve()
ONE_EPOCH = ["SOLVER.EPOCHS=1", "SOLVER.WARMUP_EPOCHS=0"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory of its own, and a working directory beside it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def _no_folder_of_that_name(tmp_path):
    """Nothing is ever written into a folder called ``~``."""
    yield
    assert not list(tmp_path.rglob("~*"))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("TEACHER.WEIGHTS", "~/t.pth", "{home}/t.pth"),
        ("STUDENT.WEIGHTS", "~/s.pth", "{home}/s.pth"),
        ("STUDENT.WEIGHTS", "pretrained", "pretrained"),
        ("STUDENT.WEIGHTS", "", ""),
        ("DATASET.ROOT", "~/data", "{home}/data"),
        ("DATASET.ROOT", "data/~x", "data/~x"),
        ("DATASET.TYPE", "folder:~/birds", "folder:{home}/birds"),
        ("DATASET.TYPE", "Folder:~/a:b", "Folder:{home}/a:b"),
        ("DATASET.TYPE", "digits", "digits"),
        ("CACHE.DIR", "~/cache", "{home}/cache"),
        ("CACHE.DIR", "", ""),
        ("LOG.PREFIX", "~", "{home}"),
        ("LOG.PREFIX", "runs", "runs"),
        ("LOG.PREFIX", "./~x", "./~x"),
    ],
)
def test_a_path_of_a_configuration(home, key, value, expected):
    cfg = kdbench.load_config(overrides=[f"{key}={value}"] if value else {key: value})
    node, last = key.split(".")
    assert cfg[node][last] == expected.format(home=home)


def test_the_cache_lies_below_what_the_configuration_names(home):
    assert cache_root(kdbench.load_config(overrides={"LOG.PREFIX": "~/runs"})) == home / "runs" / ".teacher-cache"
    assert cache_root(kdbench.load_config(overrides={"CACHE.DIR": "~/c"})) == home / "c"


@pytest.mark.parametrize("key", ["TEACHER.WEIGHTS", "DATASET.ROOT", "LOG.PREFIX"])
def test_nobodys_home_directory(home, key):
    with pytest.raises(
        ConfigError, match=rf"{key}: '~nobody-of-that-name/x': no home directory of 'nobody-of-that-name'"
    ):
        kdbench.load_config(overrides={key: "~nobody-of-that-name/x"})


def test_a_folder_without_a_name_is_no_data_set():
    for value in ("folder:", "folder: "):
        with pytest.raises(ConfigError, match=r"DATASET\.TYPE: .* names no folder; write folder:<path>"):
            kdbench.load_config(overrides={"DATASET.TYPE": value})


def test_bases_are_relative_to_their_file_or_at_home(home):
    (home / "base.yaml").write_text("SOLVER: {LR: 0.5}\n")
    (home / "middle.yaml").write_text("_BASE_: base.yaml\n")
    Path("top.yaml").write_text("_BASE_: ~/middle.yaml\n")
    assert kdbench.load_config("top.yaml").SOLVER.LR == 0.5
    assert kdbench.load_config("~/middle.yaml").SOLVER.LR == 0.5
    os.chdir(home.parent)
    assert kdbench.load_config("here/top.yaml").SOLVER.LR == 0.5


def test_what_stands_in_a_file_is_relative_to_it(home):
    assert beside(Path("a/b.yaml"), "c.yaml") == Path("a/c.yaml")
    assert beside(Path("a/b.yaml"), "~/c.yaml") == home / "c.yaml"
    assert beside(Path("a/b.yaml"), "/c.yaml") == Path("/c.yaml")


def test_a_weights_file_at_home_is_read(home):
    (home / "w.pth").write_bytes(b"x")
    assert file_sha256("~/w.pth") == file_sha256(home / "w.pth")


def test_the_command_line(home, capsys):
    shutil.copy(STUDENT, home / "student.yaml")
    shutil.copytree(STUDENT.parents[1] / "base", home.parent / "base")
    (home / "mine.py").write_text("MARK = 1\n")
    words = ["--cfg", "~/student.yaml", "--import", "~/mine.py", "LOG.PREFIX=~/runs", *ONE_EPOCH]
    assert main(["train", *words]) == 0
    (folder,) = (home / "runs").glob("Vanilla-*")
    assert main(["eval", "--run", f"~/runs/{folder.name}"]) == 0
    assert main(["eval", *words, "--weights", f"~/runs/{folder.name}/student.safetensors"]) == 0
    assert main(["cache", "ls", "--dir", "~/runs/.teacher-cache"]) == 0
    assert f"no caches in {home}/runs/.teacher-cache" in capsys.readouterr().out
    assert main(["table", "~/runs", "--out", "~/out"]) == 0
    assert len(kdbench.load_results("~/runs")) == 1
    assert (home / "out" / "table.md").is_file()
    assert os.listdir() == []


GRID = """
NAME: g
CFG: ~/student.yaml
TEACHERS: {T: {MODEL: small_cnn, WEIGHTS: ~/t.safetensors}, U: {CFG: ~/student.yaml}}
PAIRS: [{TEACHER: T, STUDENT: small_cnn}]
METHODS: [Vanilla]
SEEDS: [1]
SET: {SOLVER.EPOCHS: 1, SOLVER.WARMUP_EPOCHS: 0}
"""


def test_a_grid(home, capsys):
    shutil.copy(STUDENT, home / "student.yaml")
    shutil.copytree(STUDENT.parents[1] / "base", home.parent / "base")
    (home / "t.safetensors").write_bytes(b"x")
    (home / "g.yaml").write_text(GRID)
    assert load_grid("~/g.yaml").teachers["T"].weights == str(home / "t.safetensors")
    assert main(["grid", "~/g.yaml", "--dry-run", "--no-probe", "--write-configs", "~/written"]) == 0
    assert len(list((home / "written").iterdir())) == 1
    report = run_grid("~/g.yaml", prefix="~/runs", jobs=1, threads=1)
    assert report.ok
    assert report.folder == home / "runs" / "g"
    assert main(["grid", "~/g.yaml", "--prefix", "~/runs", "--status"]) == 0


@pytest.mark.parametrize("key", ["EXPERIMENT.NAME", "EXPERIMENT.TAG"])
@pytest.mark.parametrize("value", ["..", "../..", "a/../../b", "/tmp/elsewhere", "~/x", "~", "a\nb", "a\0b"])
def test_a_name_does_not_lead_out(tmp_path, key, value):
    with pytest.raises(ConfigError) as caught:
        kdbench.load_config(overrides={key: value, "LOG.PREFIX": str(tmp_path)})
    assert (
        str(caught.value) == f"override: {key}: {value!r} leads out of LOG.PREFIX; expects a name, or names joined by /"
    )


def test_that_is_one_line_and_nothing_is_written(tmp_path, capsys):
    prefix = tmp_path / "deep" / "runs"
    assert main(["train", "--cfg", str(STUDENT), f"LOG.PREFIX={prefix}", "EXPERIMENT.NAME=../..", *ONE_EPOCH]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["", "a", "a/b", "kd,res56_res20", "HCD(n=1)", "a..b", "a~"])
def test_other_names_are_as_they_were(value):
    for key in ("NAME", "TAG"):
        assert kdbench.load_config(overrides={f"EXPERIMENT.{key}": value}).EXPERIMENT[key] == value


def test_a_path_that_can_be_none():
    with pytest.raises(KdbenchError, match="no path: it holds a control character"):
        expanded("a\0b")


def test_configurations_that_come_with_kdbench_are_found_from_any_folder(home):
    assert not Path("configs").exists()
    cfg = kdbench.load_config("configs/digits/teacher_vit.yaml")
    assert cfg.DISTILLER.STUDENT == "small_vit"
    assert load_grid("configs/grids/quickstart.yaml").name == "quickstart"
    Path("mine.yaml").write_text("_BASE_: configs/digits/student.yaml\nSOLVER: {EPOCHS: 7}\n")
    assert kdbench.load_config("mine.yaml").SOLVER.EPOCHS == 7
    with pytest.raises(ConfigError, match=r"did you mean 'teacher_vit.yaml'"):
        kdbench.load_config("configs/digits/techer_vit.yaml")
    # one of the working directory comes first
    Path("configs/digits").mkdir(parents=True)
    Path("configs/digits/student.yaml").write_text("SOLVER: {EPOCHS: 3}\n")
    assert kdbench.load_config("configs/digits/student.yaml").SOLVER.EPOCHS == 3
    for wrong in ("configs/digits/techer_vit.yaml", "configs/../setup.yaml"):
        with pytest.raises(ConfigError, match="no configuration file"):
            kdbench.load_config(wrong)
