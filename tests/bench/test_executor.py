"""Workers of one machine: threads and GPUs of their own, a death that costs one task."""

from __future__ import annotations

import os

import torch

from kdbench.bench.executor import LocalPool, visible_gpus


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


def test_visible_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 6")
    assert visible_gpus() == ["3", "6"]
