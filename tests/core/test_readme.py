"""What the README shows is what there is: its method runs, its table is the quickstart's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from child_python import run_python

README = Path("README.md").read_text(encoding="utf-8")
CHECK = """
import sys
from kdbench.cli.main import import_plugins
import_plugins([sys.argv[1]])
import kdbench
from kdbench.bench.methods.conformance import FAMILIES, check_pair
outcomes = {check_pair("MINE", teacher, student) for teacher in FAMILIES for student in FAMILIES}
assert outcomes == {"runs"}, outcomes
assert "MINE" in kdbench.list_distillers()
"""


@pytest.fixture
def method(tmp_path):
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "register_distiller" in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    file = tmp_path / "my_method.py"
    file.write_text(code)
    return file


def test_method_of_30_lines_conforms_on_every_pair(method):
    run_python(CHECK, str(method))


def test_method_of_30_lines_trains_and_is_listed(method, tmp_path, digits_teacher):
    words = ["train", "--import", str(method), "--cfg", "configs/digits/student.yaml", "--distiller", "MINE"]
    words += [
        "--teacher",
        "small_mixer",
        f"TEACHER.WEIGHTS={digits_teacher}",
        f"LOG.PREFIX={tmp_path}",
        "SOLVER.EPOCHS=1",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "kdbench", *words, "SOLVER.WARMUP_EPOCHS=0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("MINE: top-1")
    listed = subprocess.run(
        [sys.executable, "-m", "kdbench", "list", "--import", str(method)], capture_output=True, text=True, check=False
    )
    assert "MINE" in listed.stdout


def test_table_is_there():
    table = re.search(r"<!-- quickstart table -->(.*?)<!-- /quickstart table -->", README, re.S).group(1)
    for part in ("ViT -> CNN", "Mixer -> CNN", "gain over KD", "± ", "(6)"):
        assert part in table
