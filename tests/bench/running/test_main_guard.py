"""A script that would start a grid again in each of its workers is refused before anything is written; a guarded one runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from small_grids import grid_file

CALL = "kdbench.run_grid({grid!r}, prefix={prefix!r}, jobs=1)"


@pytest.fixture
def run_script(tmp_path):
    """Run a script whose body holds CALL in the place of ``...``."""
    call = CALL.format(grid=str(grid_file(tmp_path, METHODS=["Vanilla"], SEEDS=[1])), prefix=str(tmp_path / "runs"))
    script = tmp_path / "mine.py"

    def run(body):
        script.write_text(f"import kdbench\n{body.replace('...', call)}\n")
        return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, timeout=300)

    return run


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("...", marks=pytest.mark.slow),
        pytest.param("for _ in range(1):\n    ...", marks=pytest.mark.slow),
        "def main():\n    ...\nmain()",
    ],
)
def test_a_call_on_import_is_refused_with_its_line(run_script, tmp_path, body):
    done = run_script(body)
    line = 2 + body.count("\n")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        f"kdbench.errors.KdbenchError: {tmp_path / 'mine.py'}, line {line}: run_grid starts processes that import this file, "
        'and would start their own; put the call below if __name__ == "__main__":'
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "body",
    [
        'if __name__ == "__main__":\n    ...',
        pytest.param(
            'import multiprocessing\nif multiprocessing.current_process().name == "MainProcess":\n    ...',
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_guarded_call_runs(run_script, tmp_path, body):
    done = run_script(body)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs").rglob("result.json"))


@pytest.mark.slow
def test_a_script_from_standard_input_has_no_file_to_import(tmp_path):
    grid = grid_file(tmp_path, METHODS=["Vanilla"], SEEDS=[1])
    text = "import kdbench\n" + CALL.format(grid=str(grid), prefix=str(tmp_path / "runs"))
    done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
