"""The card says what the run and the file say, and its header is YAML."""

from __future__ import annotations

import pytest
import yaml
from tiny_run import settings

import kdbench
from kdbench.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    teacher = kdbench.train(settings(folder, 1))
    taught = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_cnn", "TEACHER.FLOOR": 0.0}
    return kdbench.train(settings(folder, 1, **taught, **{"TEACHER.WEIGHTS": f"{teacher.folder}/student.safetensors"}))


def test_the_command(run, tmp_path, capsys):
    file = tmp_path / "README.md"
    words = ["export", run.folder, "--to", "torch.export", "--out", str(tmp_path / "x.pt2"), "--card"]
    assert main([*words, str(file)]) == 0
    _, header, text = file.read_text(encoding="utf-8").split("---\n", 2)
    (entry,) = yaml.safe_load(header)["model-index"]
    assert entry["name"] == run.run_id
    assert entry["results"][0]["metrics"][0]["value"] == pytest.approx(run.top1_last / 100)
    assert f"| small\\_cnn, weights {run.teacher_sha256[:12]} |".replace("\\", "") in text.replace("\\", "")
    row = f"| small_cnn | small_cnn | KD | {run.top1_last:.2f} | {run.top5_last:.2f} | {run.teacher_top1:.2f} |"
    assert row in text.replace("\\", "")
    assert "| starting weights | fresh |" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith(("| 1 |", "| 32 |"))] == ["1", "32"]
    capsys.readouterr()
    assert main([*words, str(tmp_path / "card.txt")]) == 2
    assert "expects a name that ends in .md" in capsys.readouterr().err
