"""Workers of one machine: threads and GPUs of their own, a death that costs one task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from kdbench.bench.running.pools.local_pool import LocalPool


def test_each_worker_sees_its_gpu_and_threads_and_a_death_costs_one_task():
    with LocalPool(2, 1, gpus=["7", "5"]) as pool:
        for key in range(2):
            pool.start(key, os.getenv, "CUDA_VISIBLE_DEVICES")
        assert not pool.has_room
        seen = {}
        while pool.is_busy:
            seen |= {key: outcome.value for key, outcome in pool.finished()}
        assert sorted(seen.values()) == ["5", "7"]
        pool.start("t", torch.get_num_threads)
        assert [outcome.value for _, outcome in pool.finished()] == [1]
        pool.start("dies", os._exit, 1)
        [(_, outcome)] = list(pool.finished())
        assert "worker process died" in outcome.error
        pool.start("lives", int, 3)
        assert [outcome.value for _, outcome in pool.finished()] == [3]


def test_a_worker_that_dies_while_idle_costs_nothing():
    with LocalPool(1, 1, gpus=[]) as pool:
        pool.start("pid", os.getpid)
        [(_, outcome)] = list(pool.finished())
        os.kill(outcome.value, signal.SIGKILL)
        time.sleep(0.5)
        pool.start("next", int, 3)
        assert [outcome.value for _, outcome in pool.finished()] == [3]


def test_a_pool_that_is_found_broken_at_submission_is_renewed():
    with LocalPool(1, 1, gpus=[]) as pool:
        pool.start("pid", os.getpid)
        [(_, outcome)] = list(pool.finished())
        pool._pools[0]._processes = {}  # so that the death is not seen before the submission
        os.kill(outcome.value, signal.SIGKILL)
        time.sleep(1)
        pool.start("next", int, 3)
        assert [outcome.value for _, outcome in pool.finished()] == [3]


def test_a_worker_that_is_asked_to_stop_while_it_starts_heeds_that():
    with LocalPool(1, 1, gpus=[]) as pool:
        pool.start("begins", os.getpid)
        pool.stop()  # long before it has imported anything
        [(_, outcome)] = list(pool.finished())
        assert not outcome.error
        assert outcome.leaving
        pool.start("next", int, 3)
        assert [outcome.value for _, outcome in pool.finished()] == [3]


PARENT = """
import os, time
from kdbench.bench.running.pools.local_pool import LocalPool
if __name__ == "__main__":
    with LocalPool(1, 1, gpus=[]) as pool:
        pool.start("pid", os.getpid)
        [(_, outcome)] = list(pool.finished())
        pool.start("long", time.sleep, 600)
        print(outcome.value, flush=True)
        time.sleep(600)
"""


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    process = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while _runs(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(worker)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_several_gpus_for_each_worker():
    with LocalPool(2, 1, gpus=["0", "1", "2", "3"], gpus_each=2) as pool:
        for key in range(2):
            pool.start(key, os.getenv, "CUDA_VISIBLE_DEVICES")
        seen = []
        while pool.is_busy:
            seen += [outcome.value for _, outcome in pool.finished()]
    assert sorted(seen) == ["0,1", "2,3"]
