"""What the README shows is what there is: its method runs, its table is the quickstart's."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from child_python import run_python

from kdbench.catalogue import methods

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
    for part in ("ViT -> CNN", "Mixer -> CNN", "gain over KD", "± ", "(12)"):
        assert part in table


@pytest.mark.slow
def test_every_command_of_use_it_works(tmp_path, digits_teacher):
    """As they stand, with two epochs in the place of many, and names in the place of <file> and <run>."""
    part = README.partition("## Use it")[2].partition("\n## ")[0]
    commands, code = (
        re.search(r"```\n(.*?)```", part, re.S).group(1),
        re.search(r"```python\n(.*?)```", part, re.S).group(1),
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    short = ["SOLVER.EPOCHS=2", "SOLVER.WARMUP_EPOCHS=1", "TEACHER.FLOOR=0"]
    told = []
    for line in commands.splitlines():
        words = shlex.split(line.partition("  #")[0])
        assert words[0] == "kdbench", line
        if words[1] == "export" and importlib.util.find_spec("onnxruntime") is None:
            continue
        runs = sorted((tmp_path / "runs" / "quickstart").glob("KD-*"))
        named = str(runs[0].relative_to(tmp_path)) if runs else ""
        words = [
            word.replace("<file>", str(digits_teacher)).replace("runs/quickstart/<run>", named) for word in words[1:]
        ]
        words = [word.replace("small_vit", "small_mixer") for word in words]  # whose weights these are
        words += short if words[0] in ("train", "grid") else []
        done = subprocess.run(
            [sys.executable, "-m", "kdbench", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        told.append(done.stdout)
    assert len(told) >= 12
    code = f"import torch\nimages = torch.rand(2, 3, 224, 224)\n{code}"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_it_counts_the_methods():
    known = [methods().get(name) for name in methods().names()]
    compared = [method.name for method in known if "@" in method.verified]
    assert f"each of the {len(known)} methods" in README
    assert f"That holds for {len(compared)} of the {len(known)} methods." in README
    assert {method.name for method in known} - set(compared) == {"Vanilla", "HCD", "UHKD", "IPWD"}
