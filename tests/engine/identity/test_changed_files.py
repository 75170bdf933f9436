"""What a finished run has left and that was changed since: written again, or not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_run import settings

import kdbench
from kdbench.cli.main import main


def flip_last_bit(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_metrics_that_were_changed_after_the_end_are_written_again(tmp_path, caplog):
    first = kdbench.train(settings(tmp_path, 2))
    folder = Path(first.folder)
    content = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(content.replace(b'"top1": ', b'"top1": 1'))
    assert not len(kdbench.load_curves(tmp_path))
    assert (
        "metrics.jsonl: it cannot be read, or is not what its run wrote; the run's command writes it anew"
        in caplog.text
    )
    trained = []
    assert (
        kdbench.train(settings(tmp_path, 2), progress=lambda *step: trained.append(step)).top1_last == first.top1_last
    )
    assert not trained
    assert (folder / "metrics.jsonl").read_bytes() == content
    assert len(kdbench.load_curves(tmp_path))


def test_metrics_are_not_worth_a_run_whose_checkpoint_is_gone(tmp_path):
    folder = Path(kdbench.train(settings(tmp_path, 2)).folder)
    (folder / "metrics.jsonl").write_text("")
    (folder / "checkpoint.pt").unlink()
    trained = []
    kdbench.train(settings(tmp_path, 2), progress=lambda *step: trained.append(step))
    assert not trained


@pytest.mark.parametrize("ask", ["a run's accuracy", "its weights' accuracy", "start", "teacher"])
def test_an_exported_student_whose_bits_flipped_is_not_used_elsewhere(tmp_path, ask, capsys):
    folder = Path(kdbench.train(settings(tmp_path, 2)).folder)
    student = str(folder / "student.safetensors")
    flip_last_bit(Path(student))
    words = {
        "a run's accuracy": ["eval", "--run", str(folder)],
        "its weights' accuracy": ["eval", "--cfg", str(folder / "config.yaml"), "--weights", student],
        "start": ["train", "--cfg", str(folder / "config.yaml"), f"STUDENT.WEIGHTS={student}"],
        "teacher": ["train", "--cfg", str(folder / "config.yaml"), "DISTILLER.TYPE=KD", f"TEACHER.WEIGHTS={student}"],
    }[ask]
    if ask == "teacher":
        words.append(f"DISTILLER.TEACHER={json.loads((folder / 'result.json').read_text())['student']}")
    assert main(words) == 2
    assert f"{student} is not what was written (by result.json beside it)" in capsys.readouterr().err


def test_of_a_student_without_its_result_nothing_is_known(tmp_path):
    folder = Path(kdbench.train(settings(tmp_path, 2)).folder)
    flip_last_bit(folder / "student.safetensors")
    (folder / "result.json").unlink()
    assert main(["eval", "--run", str(folder)]) == 0


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"epoch": 1, "top1": 1' + "0" * 400 + "}", "{}", '{"epoch": "x"}', "5"]
)
def test_lines_of_metrics_that_say_nothing_are_left_out(tmp_path, content, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text(content + "\n")
    assert not len(kdbench.load_curves(tmp_path))
    assert "it cannot be read" in caplog.text
