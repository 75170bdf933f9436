"""``IMPORTS`` in configurations and grids, and what a run remembers of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_grids import FAKE, grid_file

import kdbench
from kdbench.errors import ConfigError, KdbenchError

METHOD = '''
from kdbench import Distiller, register_distiller

@register_distiller("{name}")
class Mine(Distiller):
    """Cross entropy."""

    reference = "a test"
    uses_teacher = False
    defaults = {{"WEIGHT": 1.0}}

    def losses(self, student, teacher, batch):
        return {{"ce": self.cfg.WEIGHT * self.cross_entropy(student.logits, batch)}}
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.py").write_text(METHOD.format(name="IMPORTED"))
    tree = {**FAKE, "IMPORTS": "methods/mine.py", "DISTILLER": {"TYPE": "IMPORTED", "STUDENT": "small_cnn"}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "top.yaml").write_text(
        yaml.safe_dump({"_BASE_": "base.yaml", "LOG": {"PREFIX": str(tmp_path / "runs")}})
    )
    return tmp_path


def kdbench_command(*words, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "kdbench", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_a_configuration_and_a_run_find_it(folder):
    """From another folder, by a base, and again when the run is evaluated."""
    done = kdbench_command("train", "--cfg", folder / "top.yaml", cwd=folder / "methods")
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "runs").glob("IMPORTED-*")
    again = kdbench_command("eval", run)
    assert again.returncode == 0, again.stderr
    assert "importing " in again.stderr
    assert "IMPORTED" in kdbench_command("show", run).stdout
    # an edited file is not what the run was made with
    (folder / "methods" / "mine.py").write_text(METHOD.format(name="IMPORTED") + "\nprint('other')\n")
    edited = kdbench_command("eval", run)
    assert "is not imported: it is not what" in edited.stderr
    assert "other" not in edited.stdout


def test_a_folder_that_is_handed_on_brings_no_code(folder):
    done = kdbench_command("train", "--cfg", folder / "top.yaml")
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "runs").glob("IMPORTED-*")
    text = (run / "inputs.json").read_text()
    shutil.copy(folder / "methods" / "mine.py", run / "mine.py")
    import json

    record = json.loads(text)
    record["imports"] = [str(run / "mine.py")]
    record.pop("seal")
    (run / "inputs.json").write_text(json.dumps(record))
    told = kdbench_command("eval", run)
    assert "is not imported" in told.stderr
    assert "importing" not in told.stderr


@pytest.mark.slow
def test_a_grid_hands_it_to_its_workers(folder):
    (folder / "methods" / "grids.py").write_text(METHOD.format(name="OFGRID"))
    file = grid_file(folder, IMPORTS=["methods/grids.py"], METHODS=["OFGRID"])
    done = kdbench_command("grid", file, "--prefix", folder / "out", "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OFGRID" in kdbench_command("table", folder / "out" / "g").stdout
    assert kdbench_command("grid", file, "--smoke").returncode == 0


def test_what_is_wrong_is_one_line(folder):
    for value in (3, [], {"a": 1}, [3], [""]):
        (folder / "wrong.yaml").write_text(yaml.safe_dump({**FAKE, "IMPORTS": value}))
        if value == []:
            kdbench.load_config(folder / "wrong.yaml")
            continue
        with pytest.raises(ConfigError, match=r"IMPORTS expects modules or \.py files"):
            kdbench.load_config(folder / "wrong.yaml")
    (folder / "wrong.yaml").write_text("IMPORTS: nowhere.py\n")
    with pytest.raises(KdbenchError, match=r"nowhere\.py: no file"):
        kdbench.load_config(folder / "wrong.yaml")
    assert not Path("nowhere.py").exists()
