"""A grid that is asked to stop: its runs are saved within the step, exit code 75, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from inline_pool import InlinePool
from small_grids import FAKE, grid_file

from kdbench import stopping
from kdbench.bench.running.pools.pool import Outcome
from kdbench.bench.running.run_grid import run_grid
from kdbench.engine.training.saving.checkpoint import load_checkpoint
from kdbench.errors import RunStoppedError

#: long enough to be stopped at work, and with so many steps in an epoch that a signal rarely meets the end of one
LONG = {
    **FAKE,
    "DATASET": {**FAKE["DATASET"], "OPTIONS": {**FAKE["DATASET"]["OPTIONS"], "train": 512}},
    "SOLVER": {**FAKE["SOLVER"], "EPOCHS": 8},
}


def command(file, prefix, *words):
    return [sys.executable, "-m", "kdbench", "grid", str(file), "--prefix", str(prefix), "--jobs", "2", *words]


def content(folder: Path) -> dict[str, bytes]:
    names = ("metrics.jsonl", "student.safetensors")
    return {str(f.relative_to(folder)): f.read_bytes() for name in names for f in folder.rglob(name)}


def begun(folder: Path, checkpoints: int) -> None:
    """Wait until so many runs have saved an epoch."""
    deadline = time.monotonic() + 120
    while len(list(folder.rglob("checkpoint.pt"))) < checkpoints and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A grid of five runs, and what they leave undisturbed."""
    folder = tmp_path_factory.mktemp("calm")
    file = grid_file(folder, SET=LONG, SEEDS=[1, 2])
    assert run_grid(file, prefix=str(folder / "runs"), pool=InlinePool()).ok
    return file, content(folder / "runs")


@pytest.mark.parametrize(
    ("number", "whom"),
    [
        (signal.SIGTERM, "the command"),
        pytest.param(signal.SIGUSR1, "everybody", marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, "everybody", marks=pytest.mark.slow),
    ],
)
def test_the_command_stops_its_workers_and_goes_on(tmp_path, calm, number, whom):
    """Schedulers signal the command, or all processes of a job."""
    file, expected = calm
    process = subprocess.Popen(
        command(file, tmp_path, "--cohort", "off"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    begun(tmp_path, 3)
    if whom == "everybody":
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, error = process.communicate(timeout=90)
    assert process.returncode == 75, out + error
    (said,) = [line for line in error.splitlines() if line.startswith("kdbench: ")]
    assert said.startswith(f"kdbench: stopped by {signal.Signals(number).name} with ")
    assert said.endswith(" of 5 runs to do, of which those under way are saved; the same command goes on")
    assert "Traceback" not in error
    assert "FAILED" not in out
    ended = {file.parent for file in tmp_path.rglob("result.json")}
    states = [load_checkpoint(f) for f in tmp_path.rglob("checkpoint.pt") if f.parent not in ended]
    assert any(state and "step" in state for state in states)
    again = subprocess.run(command(file, tmp_path), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert content(tmp_path) == expected


@pytest.mark.slow
def test_a_worker_that_is_asked_alone_is_replaced(tmp_path, calm):
    file, expected = calm
    process = subprocess.Popen(
        command(file, tmp_path, "--jobs", "1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    begun(tmp_path, 2)
    told = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    )
    (worker,) = [int(line.split()[0]) for line in told.stdout.splitlines() if "spawn_main" in line]
    os.kill(worker, signal.SIGTERM)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, out + error
    assert content(tmp_path) == expected


@pytest.mark.slow
def test_workers_of_a_parent_that_was_killed_save_their_runs(tmp_path, calm):
    file, expected = calm
    process = subprocess.Popen(command(file, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun(tmp_path, 2)
    process.kill()
    process.wait()
    again = subprocess.run(command(file, tmp_path), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert content(tmp_path) == expected


def test_a_task_that_was_stopped_elsewhere_is_handed_out_again(tmp_path):
    """As of a cluster's node that was taken away."""
    stopped = []

    def before(key):
        from kdbench.bench.running.pools.pool import failure

        if len(stopped) < 2:
            stopped.append(key)
            return failure(RunStoppedError("stopped"))
        return None

    pool = InlinePool(before=before)
    report = run_grid(grid_file(tmp_path), prefix=str(tmp_path / "runs"), pool=pool, cohort=1)
    assert report.ok
    assert len(stopped) == 2
    assert len(pool.begun) == 5
    assert stopping.asked() == ""


def test_a_worker_that_died_while_the_grid_was_asked_to_stop_is_no_failure(tmp_path):
    """A scheduler that takes the machine away kills what does not end in time."""
    file, prefix = grid_file(tmp_path), str(tmp_path / "runs")

    def before(key):
        os.kill(os.getpid(), signal.SIGTERM)
        return Outcome(error="the worker process died (killed, or out of memory)", died=True)

    with pytest.raises(RunStoppedError, match="with 3 of 3 runs to do"):
        run_grid(file, prefix=prefix, pool=InlinePool(before=before), cohort=1)
    assert run_grid(file, prefix=prefix, pool=InlinePool(), cohort=1).ok


@pytest.mark.slow
def test_a_signal_that_is_repeated_while_the_command_ends_changes_nothing(tmp_path, calm):
    file, _ = calm
    process = subprocess.Popen(command(file, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begun(tmp_path, 1)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    said = ""
    while line := process.stderr.readline():
        said += line
        if line.startswith("kdbench: "):
            for _ in range(300):  # until it has ended
                process.send_signal(signal.SIGHUP)
                time.sleep(0.01)
    process.communicate(timeout=90)
    assert process.returncode == 75, said


@pytest.mark.slow
def test_runs_of_several_processes(tmp_path):
    """torchrun hands the signal on, and the processes agree on a step."""
    file = grid_file(tmp_path, SET=LONG, METHODS=["KD"])
    words = ("--processes", "2", "--jobs", "1")
    assert subprocess.run(command(file, tmp_path / "calm", *words), capture_output=True, check=False).returncode == 0
    process = subprocess.Popen(
        command(file, tmp_path / "runs", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    begun(tmp_path / "runs", 2)
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 75, out + error
    states = [load_checkpoint(file) for file in (tmp_path / "runs").rglob("checkpoint.pt")]
    assert any(state and "step" in state for state in states), out + error
    assert subprocess.run(command(file, tmp_path / "runs", *words), capture_output=True, check=False).returncode == 0
    assert content(tmp_path / "runs") == content(tmp_path / "calm")
