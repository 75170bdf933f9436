"""The pages on own networks, data and loops are run as they stand: every file is written, every command is typed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path.cwd()
#: a kdbench that is this one, whatever is installed, and the Python in which it runs, whatever PATH names
SHIM = (
    f'kdbench() {{ "{sys.executable}" -m kdbench "$@"; }}; python() {{ "{sys.executable}" "$@"; }}; set -euo pipefail; '
)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the blocks of a page that are meant to be run."""
    return re.findall(r"```(python|sh|yaml)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def run_page(page: Path, folder: Path) -> list[str]:
    """Write and run the blocks of a page in one folder, in order. A block of Python is a file by the name in its first line, and so
    is one of YAML, which is written alone; one that needs a package that is not installed is left out.

    Returns: What each printed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    told = []
    for number, (language, text) in enumerate(blocks(page)):
        needed = re.search(r"\A# [^\n]*needs (\w+)", text)
        if needed and importlib.util.find_spec(needed.group(1)) is None:
            continue
        if language == "yaml":
            named = re.match(r"# ([\w/]+\.yaml)", text)
            if named:
                (folder / named.group(1)).write_text(text)
            continue
        if language == "python":
            named = re.match(r"# (\w+\.py)", text)
            file = folder / (named.group(1) if named else f"block{number}.py")
            file.write_text(text)
            words = [sys.executable, file.name]
        else:
            words = ["bash", "-c", SHIM + text]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{page}, block {number}:\n{text}\n{done.stdout}{done.stderr}"
        told.append(done.stdout)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own-model", "own-data", "own-loop", "trackers"])
def test_a_page_runs(tmp_path, name):
    page = ROOT / "docs" / f"{name}.md"
    assert len(blocks(page)) >= 2
    run_page(page, tmp_path)


@pytest.mark.slow
def test_the_tutorial_ends_in_a_table_a_report_and_a_student(tmp_path):
    for package in ("optuna", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    told = run_page(ROOT / "docs" / "tutorial.md", tmp_path)
    tex = (tmp_path / "mine" / "tables" / "table.tex").read_text()
    assert all(part in tex for part in (r"\toprule", "KD (tuned)", "DKD (tuned)", "4 trials", r"\textbf"))
    assert "KD (tuned)" in (tmp_path / "mine" / "runs" / "mine" / "report.html").read_text()
    [top1] = re.findall(r"top-1 ([\d.]+) of 500 images", told[-1])
    run = Path(told[-4].strip())
    assert float(top1) == json.loads((tmp_path / run / "result.json").read_text())["top1_last"]
    assert "small_cnn28" in (tmp_path / "student.md").read_text()
