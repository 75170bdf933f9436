"""``kdbench new-method``: what it writes passes its own test."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdbench.cli.main import main


def test_it_passes_its_own_test(tmp_path):
    assert main(["new-method", "My_Own_KD", "--out", str(tmp_path)]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["my_own_kd.md", "my_own_kd.py", "test_my_own_kd.py"]
    assert "class MyOwnKd(Distiller)" in (tmp_path / "my_own_kd.py").read_text()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_own_kd.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["KD", "dkd", "9lives", "a-b", "", "class", "a" * 65, "../x"])
def test_other_names_are_refused(tmp_path, name, capsys):
    assert main(["new-method", "--out", str(tmp_path), "--", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine_too.md").write_text("mine")
    assert main(["new-method", "MINE_TOO", "--out", str(tmp_path)]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["mine_too.md"]
