"""The command: exit codes, one-line errors, three doors."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from replicas import class_tree

from kdbench.cli.main import VERBS, main
from kdbench.data.teacher_cache.cache import TeacherCache

STUDENT = ["train", "--cfg", "configs/digits/student.yaml"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["trian"], "did you mean 'train'"),
        (["train"], "give --cfg FILE"),
        ([*STUDENT, "--distiller", "KDD"], "did you mean 'KD'"),
        ([*STUDENT, "--student", "resnet21"], "did you mean"),
        ([*STUDENT, "DATASET.TYPE=digit"], "did you mean 'digits'"),
        ([*STUDENT, "SOLVER.LRR", "1"], "did you mean 'LR'"),
        ([*STUDENT, "SOLVER.LR", "fast"], "expects a number, got 'fast'"),
        ([*STUDENT, "SOLVER.LR"], "has no value"),
        (["train", "--cfg", "configs/digits/studnet.yaml"], "did you mean 'student.yaml'"),
        ([*STUDENT, "--distiller", "KD"], "KD needs a teacher"),
        ([*STUDENT, "--distiller", "KD", "TEACHER.WEIGHTS=pretrained"], "KD needs a teacher"),
        ([*STUDENT, "--distiller", "KD", "--teacher", "small_vit"], "TEACHER.WEIGHTS is empty"),
        ([*STUDENT, "--distiller", "KD", "--teacher", "small_vit", "TEACHER.WEIGHTS=no.pt"], "no.pt does not exist"),
        ([*STUDENT, "DATASET.VAL_FRACTION=0.001"], "VAL_FRACTION 0.001 leaves no images for validation"),
        ([*STUDENT, "AUGMENT.RRC_SCALE=[0.5]"], "AUGMENT.RRC_SCALE: expects [low, high]"),
        ([*STUDENT, "AUGMENT.RRC_SCALE=[a,b]"], "0 < low <= high <= 1, got ['a', 'b']"),
        ([*STUDENT, "AUGMENT.RRC_SCALE=[1.0,0.08]"], "0 < low <= high <= 1, got [1.0, 0.08]"),
        ([*STUDENT, "AUGMENT.RRC_RATIO=[0,1]"], "AUGMENT.RRC_RATIO: expects [low, high]"),
        ([*STUDENT, "SOLVER.LR_DECAY_STAGES=[a]"], "SOLVER.LR_DECAY_STAGES: expects epochs"),
        ([*STUDENT, "SOLVER.LR_DECAY_STAGES=[20,10]"], "each later than the one before, got [20, 10]"),
        ([*STUDENT, "STUDENT.NORM=[1,2]"], "STUDENT.NORM: expects a word or [[mean x 3], [std x 3]]"),
        ([*STUDENT, "STUDENT.NORM=[[0,0,0],[1,0,1]]"], "with positive std, got [[0, 0, 0], [1, 0, 1]]"),
        ([*STUDENT, "DISTILLER.PART_WEIGHTS=[a]"], "DISTILLER.PART_WEIGHTS: expects numbers"),
        ([*STUDENT, "AUGMENT.AUTO=rand-m99-n2"], "m, the magnitude, lies in 0..10, got 99"),
        ([*STUDENT, "AUGMENT.AUTO=rand-m9-n0"], "n, operations an image, is a whole number from 1, got 0"),
        ([*STUDENT, "AUGMENT.AUTO=rand-m9-p2"], "p, a probability, lies in 0..1, got 2"),
        ([*STUDENT, "STUDENT.STAGES=[2,0]"], "STAGES of small_cnn go from shallow to deep"),
        ([*STUDENT, "STUDENT.STAGES=[-1,1]"], "-1, the final map, is the last"),
        ([*STUDENT, "SOLVER.SCHEDULE_PER=epoch", "SOLVER.WARMUP_EPOCHS=0.5"], "0.5 is no whole number"),
        ([*STUDENT, "SOLVER.BATCH_SIZE=-2"], "lies outside"),
        (["cache", "rm"], "kdbench: cache rm: name keys as `kdbench cache ls` prints them"),
        (["cache", "ls", "LOG.PREFX=a"], "did you mean 'PREFIX'"),
        (["cache", "ls", "abc"], "does not take 'abc'"),
        ([*STUDENT, "--sede", "3"], "unknown argument '--sede'"),
        (["eval", "--run", "nowhere"], "no config.yaml there"),
        (["table", "nowhere"], "no results folder 'nowhere'"),
        (["grid", "configs/grids/quickstat.yaml"], "did you mean 'quickstart.yaml'"),
        (["list", "modles"], "did you mean 'models'"),
        (["list", "--import", "no_such_module"], "--import no_such_module"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(capsys, tmp_path, words, part):
    before = set(tmp_path.iterdir())
    assert (
        main(
            [*words, f"LOG.PREFIX={tmp_path}"]
            if words[0] == "train" and len(words) > 1 and words[-1] != "SOLVER.LR"
            else words
        )
        == 2
    )
    error = capsys.readouterr().err.strip()
    assert error.startswith("kdbench: ")
    assert part in error
    assert "\n" not in error
    assert set(tmp_path.iterdir()) == before


def test_train_eval_table(capsys, tmp_path):
    options = [
        f"LOG.PREFIX={tmp_path}",
        "SOLVER.EPOCHS",
        "1",
        "SOLVER.WARMUP_EPOCHS=0",
        "--seed",
        "3",
        "DATASET.REPEAT=1",
    ]
    assert main([*STUDENT, *options]) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith("Vanilla: top-1")
    folder = line.split()[-1]
    assert main(["eval", "--run", folder]) == 0
    assert "500 images" in capsys.readouterr().out
    assert main(["table", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    names = {f"table.{suffix}" for suffix in ("md", "csv", "tex", "html", "png")}
    assert {f.name for f in (tmp_path / "out").iterdir()} == names


@pytest.mark.parametrize("door", [["-m", "kdbench", "list", "methods", "DK*"], ["-m", "kdbench", "--version"]])
def test_doors(door):
    done = subprocess.run([sys.executable, *door], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "DKD" in done.stdout or done.stdout.startswith("kdbench ")


def test_scripts_are_the_same_verbs():
    done = subprocess.run(
        [sys.executable, "tools/train.py", "--cfg", "nowhere.yaml"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.startswith("kdbench: no configuration file")) == (2, True)


@pytest.mark.parametrize("verb", VERBS)
def test_help(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert "usage: kdbench" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["list", "datasets", "--quiet"], ["list", "nonsense"]])
def test_messages_of_later_calls_from_python_are_as_before(capsys, words):
    logger = logging.getLogger("kdbench")
    before = logger.level
    try:
        logger.setLevel(logging.DEBUG)
        main(words)
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)


def test_methods_of_a_pair(capsys):
    assert main(["list", "methods", "--teacher", "small_vit", "--student", "small_cnn"]) == 0
    verdicts = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]}
    assert verdicts["KD"] == verdicts["HCD"] == "yes"
    assert verdicts["OFD"] == verdicts["FCFD"] == "no"


def test_nothing_fits():
    assert main(["list", "methods", "zzz*"]) == 1


def test_a_file_in_the_place_of_the_runs_folder(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for prefix in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main([*STUDENT, f"LOG.PREFIX={prefix}"]) == 2
        error = capsys.readouterr().err.strip()
        assert error == f"kdbench: LOG.PREFIX: {tmp_path / 'file'} is a file; name a folder for the runs"


def test_padding_that_nobody_named(capsys, tmp_path):
    tree = class_tree(tmp_path / "set", ["cat", "dog"], {"train": 2, "val": 1})
    words = [*STUDENT, f"DATASET.TYPE=folder:{tree}", "DATASET.PER_CLASS=0", f"LOG.PREFIX={tmp_path / 'runs'}"]
    assert main([*words, "AUGMENT.CROP=pad", "AUGMENT.PAD=-1"]) == 2
    assert "AUGMENT.CROP: pad needs AUGMENT.PAD" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_caches_are_found_where_the_configuration_puts_them(capsys, tmp_path):
    places = {"a": ["LOG.PREFIX={}"], "b": ["CACHE.DIR={}/.teacher-cache"], "c": ["--dir", "{}/.teacher-cache"]}
    (tmp_path / "d.yaml").write_text(f"LOG: {{PREFIX: {tmp_path / 'd'}}}\n")
    for name in "abcd":
        root = tmp_path / name / ".teacher-cache"
        for key in ("0123456789abcdef", "fedcba9876543210"):
            TeacherCache(root, key, 0).write_meta({"key": {"teacher": {"name": f"teacher-{name}"}}})
        for records in ("accuracy", "weights"):
            (root / records).mkdir()
        words = [word.format(tmp_path / name) for word in places.get(name, ["--cfg", str(tmp_path / "d.yaml")])]
        assert main(["cache", "ls", *words]) == 0
        assert f"0123456789abcdef  teacher-{name}" in capsys.readouterr().out
        assert main(["cache", "rm", "0123456789abcdef", *words]) == 0
        assert sorted(f.name for f in root.iterdir()) == ["accuracy", "fedcba9876543210", "weights"]
        assert main(["cache", "rm", *words, "all"]) == 0
        assert not list(root.iterdir())
        capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["grid", "quickstart", "--only", "x"], "--only needs --smoke"),
        (["grid", "quickstart", "--batch", "4"], "--batch needs --smoke"),
        (["grid", "quickstart", "--no-probe"], "--no-probe needs --dry-run"),
        (["grid", "quickstart", "--write-configs", "x"], "--write-configs needs --dry-run"),
        (["grid", "quickstart", "--watch"], "--watch needs --status"),
        (["grid", "quickstart", "--dry-run", "--gpus", "4"], "--gpus needs --executor"),
        (["grid", "quickstart", "--dry-run", "--engine", "a=1"], "--engine needs --executor"),
        (["grid", "quickstart", "--dry-run", "--smoke"], "give one of them"),
        (["grid", "quickstart", "--status", "SOLVER.EPOCHS=3"], "SOLVER.EPOCHS=3 would change nothing"),
        (["table", "runs", "--source", "reported"], "--source needs --paper"),
        (["table", "runs", "--grid", "x.yaml"], "--grid needs --paper"),
    ],
)
def test_options_that_act_only_beside_others_are_refused_alone(capsys, words, told):
    assert main(words) == 2
    assert told in capsys.readouterr().err
