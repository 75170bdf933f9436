"""What a wheel holds: the package alone, in an empty folder, does what README shows."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-c", "import setuptools.build_meta as m, sys; m.build_wheel(sys.argv[1])", str(folder)]
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(site, folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", "kdbench", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_the_configurations_and_nothing_of_the_tests(site):
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"kdbench"}
    shipped = {str(path.relative_to(site / "kdbench")) for path in (site / "kdbench" / "configs").rglob("*.yaml")}
    assert shipped == {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}


def test_commands_of_the_readme_work_from_any_folder(site, tmp_path):
    code = "import kdbench; print(kdbench.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(site))
    assert "234 cells" in run(site, tmp_path, "grid", "table1", "--dry-run", "--no-probe")
    assert "120 cells" in run(site, tmp_path, "grid", "quickstart", "--dry-run", "--no-probe")
    out = run(site, tmp_path, "train", "--cfg", "configs/digits/teacher_vit.yaml", "SOLVER.EPOCHS=1")
    assert "top-1" in out
    assert "| " in run(site, tmp_path, "table", "runs", "--paper", "1")
