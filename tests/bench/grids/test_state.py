"""Recorded failures and status: what is kept of a grid's runs, and what is shown of them."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import socket
import time

import pytest
from rich.console import Console
from small_grids import grid_file

from kdbench.bench.comparison.table import build_table
from kdbench.bench.grids.lock import STATE_DIR, held
from kdbench.bench.grids.state import clear_failures, read_states, write_state
from kdbench.bench.grids.status import grid_status
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.grid import status_table
from kdbench.cli.main import main
from kdbench.errors import KdbenchError


def test_failures_are_recorded_and_tried_again_only_when_told(tmp_path, capsys):
    methods = ["Vanilla", {"TYPE": "LDRLD", "SET": {"LDRLD.K": 99}}]
    file, prefix = grid_file(tmp_path, METHODS=methods), str(tmp_path / "runs")
    for expected in ("FAILED", "FAILED"):
        assert main(["grid", str(file), "--prefix", prefix, "--jobs", "1", "--threads", "1"]) == 1
        out = capsys.readouterr().out
        assert expected in out
    assert "done before" in out
    states = read_states(tmp_path / "runs" / "g")
    assert sorted(s["status"] for s in states.values()) == ["done", "done", "failed"] or len(states) == 2
    [failed] = [s for s in states.values() if s["status"] == "failed"]
    assert "expects 2 to 9" in failed["error"]
    lines = []
    run_grid(file, prefix=prefix, jobs=1, threads=1, retry=True, announce=lines.append)
    assert any("FAILED" in line for line in lines)
    assert main(["grid", str(file), "--prefix", prefix, "--status"]) == 0
    text = capsys.readouterr().out
    assert "expects 2 to 9" in text
    status = grid_status(tmp_path / "runs" / "g")
    assert status.total == {"done": 1, "running": 0, "failed": 1, "waiting": 0}


def test_a_finished_grid_needs_no_worker(tmp_path):
    file, prefix = grid_file(tmp_path), str(tmp_path / "runs")
    assert run_grid(file, prefix=prefix, jobs=1, threads=1).ok
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "runs").rglob("result.json")}
    lines = []

    class NoPool:
        has_room, is_busy = True, False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def start(self, *_):
            raise AssertionError("a finished run was started")

    assert run_grid(file, prefix=prefix, announce=lines.append, pool=NoPool()).ok
    assert len(lines) == 3
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "runs").rglob("result.json")} == before


@pytest.mark.slow
def test_a_run_that_another_grid_is_at_is_waited_for(tmp_path):
    file, prefix = grid_file(tmp_path), str(tmp_path / "runs")
    assert run_grid(file, prefix=prefix, jobs=1, threads=1).ok
    folder = tmp_path / "runs" / "g"
    record = json.loads((folder / "grid.json").read_text())
    key = next(c["key"] for c in record["cells"] if c["method"] == "KD")
    done = json.loads((folder / STATE_DIR / f"{key}.json").read_text())
    (folder / STATE_DIR / f"{key}.json").unlink()
    lock = folder / STATE_DIR / f"{key}.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "t"}))

    def other_finishes():
        time.sleep(15)  # a worker needs some of them to start, and finds the lock
        write_state(folder, key, done)
        lock.unlink()

    worker = multiprocessing.get_context("fork").Process(target=other_finishes)
    worker.start()
    lines = []
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("result.json")}
    assert run_grid(file, prefix=prefix, jobs=1, threads=1, announce=lines.append).ok
    worker.join()
    assert "KD" in lines[-1]
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("result.json")} == before


def test_status_of_nothing_and_of_damage(tmp_path, capsys):
    with pytest.raises(KdbenchError, match="no grid was started"):
        grid_status(tmp_path)
    (tmp_path / "grid.json").write_text("{}")
    with pytest.raises(KdbenchError, match="is damaged"):
        grid_status(tmp_path)
    with pytest.raises(KdbenchError, match="is damaged"):
        build_table(tmp_path)
    assert main(["grid", "tabel1", "--status"]) == 2
    assert "did you mean 'table1'" in capsys.readouterr().err


def test_the_whole_traceback_of_a_failure_is_kept(tmp_path):
    methods = [{"TYPE": "LDRLD", "SET": {"LDRLD.K": 99}}]
    file, prefix = grid_file(tmp_path, METHODS=methods), str(tmp_path / "runs")
    assert not run_grid(file, prefix=prefix, jobs=1, threads=1).ok
    [log] = (tmp_path / "runs" / "g" / STATE_DIR).glob("*.log")
    text = log.read_text()
    assert text.startswith("Traceback")
    assert "expects 2 to 9" in text
    assert "engine/run.py" in text


def test_only_these_runs_are_tried_again(tmp_path):
    for key in ("mine", "other"):
        write_state(tmp_path, key, {"status": "failed", "error": "x"}, trace="Traceback")
    assert clear_failures(tmp_path, ["mine", "unknown"]) == 1
    assert set(read_states(tmp_path)) == {"other"}
    assert [f.name for f in (tmp_path / STATE_DIR).glob("*.log")] == ["other.log"]


def test_many_failures_of_one_reason_are_one_line(tmp_path):
    cells = [{"pair": "p", "method": "KD", "seed": n, "key": str(n), "run": None, "error": ""} for n in range(50)]
    record = {"name": "g", "pairs": ["p"], "methods": ["KD"], "baseline": "KD", "cells": cells, "teachers": {}}
    (tmp_path / "grid.json").write_text(json.dumps(record))
    for n in range(50):
        error = f"DataError: no file /data/{n}.jpg" if n % 2 else "OutOfMemoryError"
        write_state(tmp_path, str(n), {"status": "failed", "error": error})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(status_table(grid_status(tmp_path)))
    lines = [line.strip() for line in console.export_text().splitlines() if line.startswith("failed")]
    assert lines == [
        "failed: 25 runs: OutOfMemoryError (p / KD / seed 0, for instance)",
        "failed: 25 runs: DataError: no file /data/1.jpg (p / KD / seed 1, for instance)",
    ]


def test_status_shows_how_far_each_run_has_come(tmp_path):
    cells = [{"pair": "p", "method": m, "seed": 1, "key": m, "run": None, "error": ""} for m in ("KD", "DKD", "CRD")]
    record = {"name": "g", "pairs": ["p"], "methods": ["KD"], "baseline": "KD", "cells": cells, "teachers": {"A": "T"}}
    (tmp_path / "grid.json").write_text(json.dumps(record))
    at = {"epoch": 3, "epochs": 12, "step": 7, "steps": 20}
    with contextlib.ExitStack() as stack:
        for key, facts in (("KD", at), ("DKD", {**at, "epoch": 4}), ("CRD", None), ("T", at)):
            lock = stack.enter_context(held(tmp_path, key))
            if facts is not None:
                lock.note(lambda facts=facts: facts)
        status = grid_status(tmp_path)
    here = f"{socket.gethostname()}, process {os.getpid()}"
    assert status.running == {
        "p / KD / seed 1": f"{here}, epoch 3 of 12, step 7 of 20",
        "p / DKD / seed 1": f"{here}, epoch 4 of 12, step 7 of 20",
        "p / CRD / seed 1": here,
        "teacher A": f"{here}, epoch 3 of 12, step 7 of 20",
    }
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(status_table(status))
    text = console.export_text()
    assert f"running: p / DKD / seed 1 ({here}, epoch 4 of 12, step 7 of 20)" in text
    assert text.count("teacher A") == 1
