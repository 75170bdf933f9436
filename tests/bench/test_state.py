"""Claims, recorded failures, status: what keeps two grids on one folder apart, and what is shown of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import time

import pytest
import yaml

from kdbench.bench.grid import run_grid
from kdbench.bench.state import STATE_DIR, BusyError, claimed, read_states, write_state
from kdbench.bench.status import grid_status
from kdbench.bench.table import build_table
from kdbench.cli.main import main
from kdbench.errors import KdbenchError

FAKE = {
    "DATASET": {"TYPE": "fake", "OPTIONS": {"size": 8, "train": 32, "test": 16}, "NUM_WORKERS": 0},
    "SOLVER": {"EPOCHS": 1, "BATCH_SIZE": 16, "LR": 0.01},
    "AUGMENT": {"CROP": "none", "FLIP": 0},
}


def grid_file(folder, **changes):
    teacher = {**FAKE, "DISTILLER": {"TYPE": "NONE", "STUDENT": "small_mixer"}}
    (folder / "teacher.yaml").write_text(yaml.safe_dump(teacher))
    tree = {
        "NAME": "g",
        "SET": FAKE,
        "TEACHERS": {"A": {"CFG": "teacher.yaml"}},
        "METHODS": ["Vanilla", "KD"],
        "SEEDS": [1],
    }
    tree |= {"PAIRS": [{"TEACHER": "A", "STUDENT": "small_cnn"}], **changes}
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def test_a_claim_excludes_and_ends(tmp_path):
    with claimed(tmp_path, "k"):
        assert read_states(tmp_path)["k"]["status"] == "running"
        with pytest.raises(BusyError), claimed(tmp_path, "k"):
            pass
        with claimed(tmp_path, "other"):
            pass
    assert read_states(tmp_path) == {}
    with claimed(tmp_path, "k"):
        pass


def lock_of(tmp_path, **record):
    (tmp_path / STATE_DIR).mkdir(exist_ok=True)
    lock = tmp_path / STATE_DIR / "k.lock"
    lock.write_text(json.dumps(record) if record else "{")
    return lock


def test_silent_and_dead_owners_are_taken_over_others_not(tmp_path):
    lock = lock_of(tmp_path, host="elsewhere", pid=1, token="t")
    with pytest.raises(BusyError), claimed(tmp_path, "k"):
        pass
    old = time.time() - 1000
    os.utime(lock, (old, old))
    with claimed(tmp_path, "k"):
        pass
    child = multiprocessing.get_context("spawn").Process(target=int)
    child.start()
    child.join()
    lock_of(tmp_path, host=os.uname().nodename, pid=child.pid, token="t")
    with claimed(tmp_path, "k"):
        pass
    lock = lock_of(tmp_path)  # half-written by a full disk: only silence tells
    with pytest.raises(BusyError), claimed(tmp_path, "k"):
        pass


def test_signs_of_life(tmp_path):
    with claimed(tmp_path, "k", beat=0.05):
        lock = tmp_path / STATE_DIR / "k.lock"
        os.utime(lock, (0, 0))
        time.sleep(0.3)
        assert lock.stat().st_mtime > time.time() - 5


def test_an_owner_that_lost_its_lock_leaves_the_new_one_alone(tmp_path):
    with claimed(tmp_path, "k"):
        lock = lock_of(tmp_path, host="elsewhere", pid=1, token="new")
    assert lock.exists()


def _claim_once(folder, results, everybody_has_tried):
    try:
        with claimed(folder, "k"):
            results.put(1)
            everybody_has_tried.wait(60)
    except BusyError:
        results.put(0)


def test_of_many_processes_at_a_stale_lock_one_gets_it(tmp_path):
    os.utime(lock_of(tmp_path, host="elsewhere", pid=1, token="t"), (0, 0))
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    # the one that gets it holds it until all have tried: a slow starter must not find it free again
    tried = context.Event()
    workers = [context.Process(target=_claim_once, args=(tmp_path, results, tried)) for _ in range(8)]
    for worker in workers:
        worker.start()
    assert sum(results.get(timeout=60) for _ in workers) == 1
    tried.set()
    for worker in workers:
        worker.join()


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
    assert "must lie in 2..9" in failed["error"]
    lines = []
    run_grid(file, prefix=prefix, jobs=1, threads=1, retry=True, announce=lines.append)
    assert any("FAILED" in line for line in lines)
    assert main(["grid", str(file), "--prefix", prefix, "--status"]) == 0
    text = capsys.readouterr().out
    assert "must lie in" in text
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
