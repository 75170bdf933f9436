"""One process at a run: the second says who has it, a killed one is no obstacle, and what it left is swept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import overrides, settings

import kdbench
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.session.holding import Holding
from kdbench.errors import RunBusyError

EPOCHS = 3
CHILD = """
import json, sys, time, kdbench
cfg = kdbench.load_config(overrides=json.loads(sys.argv[1]))
def progress(epoch, step, steps):
    if (epoch, step) == (2, 1):
        print("there", flush=True)
        time.sleep(100)
kdbench.train(cfg, progress=progress)
"""


@pytest.fixture
def at_work(tmp_path):
    """A process that is within the second epoch of a run."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(overrides(tmp_path, EPOCHS))], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "there\n"
    yield child
    child.kill()
    child.wait()


def test_the_second_process_says_who_has_the_run(tmp_path, at_work):
    with pytest.raises(RunBusyError, match=rf"is being trained by process {at_work.pid} on .*, since 20"):
        kdbench.train(settings(tmp_path, EPOCHS))
    metrics = next(tmp_path.rglob("metrics.jsonl")).read_text().splitlines()
    assert len(metrics) == 1
    words = [f"{key}={value}" for key, value in overrides(tmp_path, EPOCHS).items()]
    done = subprocess.run(
        [sys.executable, "-m", "kdbench", "train", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("kdbench: ")


def test_a_killed_process_is_no_obstacle_and_what_it_left_is_swept(tmp_path, at_work):
    folder = next(tmp_path.rglob("metrics.jsonl")).parent
    left = [folder / f".checkpoint.pt.{at_work.pid}", folder / f".student.safetensors.{at_work.pid}.tmp"]
    for file in left:
        file.write_bytes(b"half")
    os.kill(at_work.pid, signal.SIGKILL)
    at_work.wait()
    result = kdbench.train(settings(tmp_path, EPOCHS))
    assert Path(result.folder) == folder
    assert not any(file.exists() for file in left)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert not (folder / ".holder.json").exists()


def test_other_runs_of_the_same_folder_are_free(tmp_path, at_work):
    assert kdbench.train(settings(tmp_path, EPOCHS, **{"EXPERIMENT.SEED": 2})).epochs == 3


def test_a_cohort_goes_on_without_the_one_that_is_held(tmp_path, at_work):
    cfgs = [settings(tmp_path, EPOCHS, **extra) for extra in ({}, {"SOLVER.LR": 0.02})]
    outcomes = kdbench.train_cohort(cfgs)
    assert isinstance(outcomes[0], RunBusyError)
    assert outcomes[1].epochs == 3


def test_it_is_let_go_after_an_error(tmp_path):
    def progress(epoch, step, steps):
        raise ValueError("mine")

    cfg = settings(tmp_path, EPOCHS)
    with pytest.raises(ValueError, match="mine"):
        kdbench.train(cfg, progress=progress)
    assert kdbench.train(cfg).epochs == 3


def test_a_file_system_without_locks_is_said(tmp_path, caplog, monkeypatch):
    import filelock

    def acquire(self, *args, **kwargs):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    Holding(RunFolder(tmp_path / "run")).release()
    assert "cannot be locked" in caplog.text
    assert "see to it that no other process trains it" in caplog.text


@pytest.mark.slow
def test_many_begin_at_once_and_one_trains(tmp_path):
    code = CHILD.replace("time.sleep(100)", "time.sleep(1)")
    words = [sys.executable, "-c", code, json.dumps(overrides(tmp_path, EPOCHS))]
    children = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    codes = [child.wait(timeout=120) for child in children]
    told = [child.stderr.read() for child in children if child.stderr is not None]
    assert codes.count(0) >= 1
    assert all("RunBusyError" in text for code, text in zip(codes, told) if code)
    assert len(next(tmp_path.rglob("metrics.jsonl")).read_text().splitlines()) == 3
