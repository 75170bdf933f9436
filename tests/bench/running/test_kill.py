"""A grid that is killed again and again ends like one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_grids import EPOCHS, twelve_cells

from kdbench.bench.comparison.table import build_table
from kdbench.bench.results.loaded import load_results


def command(file, prefix):
    return [
        sys.executable,
        "-m",
        "kdbench",
        "grid",
        str(file),
        "--prefix",
        str(prefix),
        "--jobs",
        "2",
        "--threads",
        "1",
    ]


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def epochs(folder):
    return sum(len(f.read_bytes().splitlines()) for f in folder.rglob("metrics.jsonl"))


@pytest.mark.slow
def test_ten_kills(tmp_path):
    file = twelve_cells(tmp_path)
    assert subprocess.run(command(file, tmp_path / "calm"), capture_output=True).returncode == 0
    moments = random.Random(5)
    finished: dict = {}
    kills = 0
    for _ in range(10):
        process = subprocess.Popen(command(file, tmp_path / "killed"), start_new_session=True, **QUIET)
        goal = epochs(tmp_path / "killed") + moments.randint(
            1, 25
        )  # epochs, so that a slow machine is hit at work, too
        while process.poll() is None and epochs(tmp_path / "killed") < goal:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        now = {f: f.stat().st_mtime_ns for f in (tmp_path / "killed").rglob("result.json")}
        assert {f: now[f] for f in finished} == finished, "a finished run was run again"
        finished = now
    assert kills == 10
    last = subprocess.run(command(file, tmp_path / "killed"), capture_output=True, text=True)
    assert last.returncode == 0, last.stdout + last.stderr
    frame = load_results(tmp_path / "killed")
    assert len(frame) == 14
    assert frame.attrs == {"skipped": [], "unfinished": 0}
    for folder in frame.folder:
        assert len((Path(folder) / "metrics.jsonl").read_text().splitlines()) == EPOCHS
    calm, killed = build_table(tmp_path / "calm" / "g"), build_table(tmp_path / "killed" / "g")
    assert calm.to_markdown() == killed.to_markdown()
    assert calm.to_frame().equals(killed.to_frame())
