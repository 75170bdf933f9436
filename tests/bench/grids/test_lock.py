"""Locks: what keeps two grids on one folder apart, and what a process does whose lock was taken over."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from kdbench.bench.grids.lock import STATE_DIR, BusyError, LockLostError, held
from kdbench.bench.grids.owner import myself, start_time
from kdbench.bench.grids.state import read_states
from kdbench.bench.running.run_task import BUSY, run_task
from kdbench.config.load import load_config


def test_a_lock_excludes_and_ends(tmp_path):
    with held(tmp_path, "k"):
        assert read_states(tmp_path)["k"]["status"] == "running"
        with pytest.raises(BusyError), held(tmp_path, "k"):
            pass
        with held(tmp_path, "other"):
            pass
    assert read_states(tmp_path) == {}
    with held(tmp_path, "k"):
        pass


def lock_of(tmp_path, **record):
    (tmp_path / STATE_DIR).mkdir(exist_ok=True)
    lock = tmp_path / STATE_DIR / "k.lock"
    lock.write_text(json.dumps(record) if record else "{")
    return lock


def test_silent_and_dead_owners_are_taken_over_others_not(tmp_path):
    lock = lock_of(tmp_path, host="elsewhere", pid=1, token="t")
    with pytest.raises(BusyError), held(tmp_path, "k"):
        pass
    old = time.time() - 1000
    os.utime(lock, (old, old))
    with held(tmp_path, "k"):
        pass
    child = multiprocessing.get_context("spawn").Process(target=int)
    child.start()
    child.join()
    lock_of(tmp_path, **{**myself(), "pid": child.pid}, token="t")
    with held(tmp_path, "k"):
        pass
    lock = lock_of(tmp_path)  # half-written by a full disk: only silence tells
    with pytest.raises(BusyError), held(tmp_path, "k"):
        pass


def test_signs_of_life(tmp_path):
    with held(tmp_path, "k", beat=0.05):
        lock = tmp_path / STATE_DIR / "k.lock"
        os.utime(lock, (0, 0))
        time.sleep(0.3)
        assert lock.stat().st_mtime > time.time() - 5


def test_an_owner_that_lost_its_lock_leaves_the_new_one_alone(tmp_path):
    with held(tmp_path, "k"):
        lock = lock_of(tmp_path, host="elsewhere", pid=1, token="new")
    assert lock.exists()


def _hold_once(folder, results, everybody_has_tried):
    try:
        with held(folder, "k"):
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
    workers = [context.Process(target=_hold_once, args=(tmp_path, results, tried)) for _ in range(8)]
    for worker in workers:
        worker.start()
    assert sum(results.get(timeout=60) for _ in workers) == 1
    tried.set()
    for worker in workers:
        worker.join()


def test_a_live_owner_on_this_machine_is_never_taken_over(tmp_path):
    lock = lock_of(tmp_path, **myself(), token="t")
    os.utime(lock, (0, 0))  # silent since 1970, but alive
    with pytest.raises(BusyError), held(tmp_path, "k"):
        pass


def test_a_number_that_was_given_out_again_is_no_owner(tmp_path):
    assert start_time(os.getpid()) != ""
    lock_of(tmp_path, **{**myself(), "start": "1"}, token="t")
    with held(tmp_path, "k"):
        pass


@pytest.mark.parametrize("key", ["boot", "namespace", "host"])
def test_elsewhere_only_silence_tells(tmp_path, key):
    # a process number of another boot or container says nothing: this one is not even in use here
    lock = lock_of(tmp_path, **{**myself(), key: "another", "pid": 2**22 + 1}, token="t")
    with pytest.raises(BusyError), held(tmp_path, "k"):
        pass
    os.utime(lock, (0, 0))
    with held(tmp_path, "k"):
        pass


def test_an_owner_that_lost_its_lock_is_told_and_leaves_no_sign_of_life(tmp_path):
    with held(tmp_path, "k", beat=0.05) as owner:
        owner.check()
        lock = lock_of(tmp_path, host="elsewhere", pid=1, token="new")
        os.utime(lock, (0, 0))
        time.sleep(0.3)
        with pytest.raises(LockLostError, match=r"another process has taken over this run \(k\.lock\)"):
            owner.check()
    assert lock.stat().st_mtime == 0
    assert json.loads(lock.read_text())["token"] == "new"


STOPPED = """
import sys
from kdbench.bench.grids.lock import LockLostError, held
with held(sys.argv[1], "k", beat=0.05) as lock:
    print("held", flush=True)
    try:
        while True:
            lock.check()
    except LockLostError:
        print("stops", flush=True)
"""


def test_a_stopped_process_that_goes_on_does_not_go_on_with_the_run(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        lock = tmp_path / STATE_DIR / "k.lock"
        record = json.loads(lock.read_text())
        lock.write_text(json.dumps({**record, "host": "another machine's view of it"}))
        os.utime(lock, (0, 0))
        with held(tmp_path, "k"):
            process.send_signal(signal.SIGCONT)
            assert process.communicate(timeout=30)[0] == "stops\n"
            assert lock.exists()
    finally:
        process.kill()
        process.wait()


def test_a_run_that_was_taken_over_is_no_failure_and_writes_no_more(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("kdbench.bench.grids.lock.BEAT", 0.0)
    monkeypatch.setattr("kdbench.bench.running.run_task.held", lambda folder, key: held(folder, key, beat=0.0001))
    options = {
        "DATASET.TYPE": "fake",
        "DATASET.OPTIONS": {"size": 8, "train": 32, "test": 16},
        "DATASET.NUM_WORKERS": 0,
    }
    cfg = load_config(
        overrides={
            **options,
            "DISTILLER.STUDENT": "small_cnn",
            "SOLVER.EPOCHS": 3,
            "SOLVER.BATCH_SIZE": 16,
            "LOG.PREFIX": str(tmp_path / "r"),
            "AUGMENT.CROP": "none",
        }
    )

    def train(cfg, progress):
        from kdbench.engine.run import train as really

        def after(epoch, step, steps):
            if epoch == 2:
                lock_of(tmp_path, host="elsewhere", pid=1, token="new")
            progress(epoch, step, steps)

        return really(cfg, progress=after)

    monkeypatch.setattr("kdbench.bench.running.run_task.train", train)
    assert run_task(cfg, (), str(tmp_path), "k") == BUSY
    assert "another process has taken over this run" in caplog.text
    assert not (tmp_path / STATE_DIR / "k.json").exists()
    [metrics] = (tmp_path / "r").rglob("metrics.jsonl")
    assert len(metrics.read_text().splitlines()) == 1


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with held(tmp_path, "k"), pytest.raises(BusyError), held(tmp_path, "k"):
            pass
    assert caplog.text.count("file system without locks") == 1
    os.utime(lock_of(tmp_path, host="elsewhere", pid=1, token="t"), (0, 0))
    with held(tmp_path, "k"):
        pass


def test_without_locks_one_of_many_gets_a_stale_one(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks available")))
    test_of_many_processes_at_a_stale_lock_one_gets_it(tmp_path)


def test_notes_stand_in_the_record_and_never_too_often(tmp_path, monkeypatch):
    calls = []

    def facts():
        calls.append(len(calls))
        return {"epoch": 3, "epochs": 9, "call": len(calls)}

    with held(tmp_path, "k") as lock:
        path = tmp_path / STATE_DIR / "k.lock"
        before = json.loads(path.read_text())
        for _ in range(5):
            lock.note(facts)
        assert json.loads(path.read_text()) == {**before, "epoch": 3, "epochs": 9, "call": 1}
        assert len(calls) == 1
        assert lock.is_held
        monkeypatch.setattr("kdbench.bench.grids.lock.NOTE", 0.0)
        lock.note(facts)
        assert json.loads(path.read_text())["call"] == 2
        with pytest.raises(BusyError), held(tmp_path, "k"):
            pass
    assert [file.name for file in path.parent.iterdir()] == [".guard"]


def test_who_holds_many_locks_notes_less_often_in_each(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("kdbench.bench.grids.lock.time.monotonic", lambda: now[0])
    asked = []
    with held(tmp_path, "k") as lock:
        for seconds in range(0, 101, 10):
            now[0] = 100.0 + seconds
            lock.note(lambda: asked.append(now[0]) or {}, among=100)
    assert asked == [100.0, 150.0, 200.0]  # 2 s for each four of them


def test_a_note_is_never_written_over_another_owners_record(tmp_path):
    with held(tmp_path, "k") as lock:
        lock_of(tmp_path, host="elsewhere", pid=1, token="new")
        lock.note(lambda: pytest.fail("the record is not ours"))
        assert json.loads((tmp_path / STATE_DIR / "k.lock").read_text())["token"] == "new"


def test_a_note_waits_for_nobody_and_fails_nothing(tmp_path, monkeypatch):
    with held(tmp_path, "k") as lock:
        before = lock.path.read_text()
        with (lock.path.parent / ".guard").open("a") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            lock.note(lambda: pytest.fail("another process is inside"))
        monkeypatch.setattr("kdbench.bench.grids.lock.NOTE", 0.0)

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        lock.note(lambda: {"epoch": 1})
        assert lock.path.read_text() == before
        assert lock.is_held
