"""The pages on own networks, data and loops are run as they stand: every file is written, every command is typed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path.cwd()
#: a kdbench that is this one, whatever is installed
SHIM = f'kdbench() {{ "{sys.executable}" -m kdbench "$@"; }}; set -euo pipefail; '


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the blocks of a page that are meant to be run."""
    return re.findall(r"```(python|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def run(page: Path, folder: Path) -> None:
    """Write and run the blocks of a page in one folder, in order. A block of Python is a file by the name in its first line; one
    that needs a package that is not installed is left out."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for number, (language, text) in enumerate(blocks(page)):
        needed = re.search(r"\A# [^\n]*needs (\w+)", text)
        if needed and importlib.util.find_spec(needed.group(1)) is None:
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


@pytest.mark.parametrize(
    "name", ["own-model", pytest.param("own-data", marks=pytest.mark.slow), "own-loop", "trackers"]
)
def test_a_page_runs(tmp_path, name):
    page = ROOT / "docs" / f"{name}.md"
    assert len(blocks(page)) >= 2
    run(page, tmp_path)
