"""The command: exit codes, one-line errors, three doors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdbench.cli.main import VERBS, main

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
        ([*STUDENT, "--distiller", "KD", "--teacher", "small_vit"], "TEACHER.WEIGHTS is empty"),
        ([*STUDENT, "--distiller", "KD", "--teacher", "small_vit", "TEACHER.WEIGHTS=no.pt"], "no.pt does not exist"),
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
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"table.md", "table.csv", "table.png"}


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


def test_methods_of_a_pair(capsys):
    assert main(["list", "methods", "--teacher", "small_vit", "--student", "small_cnn"]) == 0
    verdicts = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]}
    assert verdicts["KD"] == verdicts["HCD"] == "yes"
    assert verdicts["OFD"] == verdicts["FCFD"] == "no"


def test_nothing_fits():
    assert main(["list", "methods", "zzz*"]) == 1
