"""Which device a run computes on, without one: ``torch.cuda`` is replaced."""

from __future__ import annotations

import pytest
import torch

import kdbench
from kdbench.engine import runtime
from kdbench.errors import ConfigError


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs as far as the choice can see; returns the devices that were set and modes that were switched."""
    seen: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", seen.append)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)

    def empty(size, device):
        if torch.device(device).index not in (0, 1):
            raise RuntimeError("CUDA error: invalid device ordinal")

    monkeypatch.setattr(runtime.torch, "empty", empty)
    return seen


@pytest.mark.parametrize(("name", "index"), [("auto", 0), ("cuda", 0), ("CUDA", 0), ("cuda:1", 1)])
def test_a_gpu_always_has_an_index(two_gpus, name, index):
    device = runtime.pick_device(name)
    assert device == torch.device("cuda", index)
    assert device.index == index  # what torch.cuda.set_device asks for


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_a_run_has_its_own(two_gpus, monkeypatch, name):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert runtime.pick_device(name, world=2) == torch.device("cuda", 1)
    assert runtime.pick_device(name, world=1) == torch.device("cuda", 0)  # a stray variable is not this run's


def test_a_gpu_that_is_not_there_is_named(two_gpus):
    with pytest.raises(ConfigError, match=r"no device 'cuda:7' \(2 GPUs visible\); use auto, cpu or cuda:<index>"):
        runtime.pick_device("cuda:7")


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert runtime.pick_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"no device 'cuda' \(no GPU visible\)"):
        runtime.pick_device("cuda")


@pytest.mark.parametrize("promise", [True, False])
def test_a_run_on_a_gpu_repeats_unless_told_otherwise(two_gpus, promise):
    started = runtime.start_runtime(kdbench.load_config(overrides={"RUNTIME.DETERMINISTIC": promise}))
    assert started.device == torch.device("cuda", 0)
    assert two_gpus == [torch.device("cuda", 0), promise]


def test_an_operation_that_cannot_repeat_is_named():
    words = "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set ..."
    told = r"adaptive_avg_pool2d_backward_cuda cannot.*RUNTIME\.DETERMINISTIC=False"
    with pytest.raises(ConfigError, match=told), runtime.deterministic_errors():
        raise RuntimeError(words)
    with pytest.raises(RuntimeError, match="another"), runtime.deterministic_errors():
        raise RuntimeError("another")
