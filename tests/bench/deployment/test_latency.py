"""Medians of repeated calls, counted by a clock of the test's own."""

from __future__ import annotations

import json

import pytest
import torch

from kdbench.bench.deployment import latency
from kdbench.bench.deployment.latency import latency_of, measured, threads_of
from kdbench.cli.main import main
from kdbench.errors import KdbenchError


class Clock:
    """Time that passes with calls alone."""

    def __init__(self, costs) -> None:
        self.now, self.calls, self.costs = 0.0, 0, costs

    def __call__(self) -> float:
        return self.now

    def work(self, images) -> None:
        self.now += self.costs(self.calls)
        self.calls += 1


def test_the_median_without_the_warm_up():
    clock = Clock(lambda call: 9.0 if call < 3 else 0.5 if call % 5 == 4 else 0.002)
    found = measured(clock.work, torch.zeros(4, 3, 2, 2), seconds=1.0, clock=clock)
    assert found.milliseconds == pytest.approx(2.0)
    assert found.images_per_second == pytest.approx(2000.0)
    assert found.calls == clock.calls - 3 == 10


def test_as_long_as_asked_and_no_longer():
    clock = Clock(lambda call: 0.05)
    assert measured(clock.work, torch.zeros(1, 3, 2, 2), seconds=2.0, clock=clock).calls in (40, 41)
    clock = Clock(lambda call: 0.0001)
    assert measured(clock.work, torch.zeros(1, 3, 2, 2), seconds=2.0, clock=clock).calls == 1000


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with threads_of(before + 2) as count:
        assert count == torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before
    with threads_of(0) as count:
        assert count == before


def test_a_network_of_the_zoo():
    found = latency_of("small_vit", num_classes=5, batches=(1, 2), seconds=0.0)
    assert found.input_size == (8, 8)
    assert [one.batch for one in found.latencies] == [1, 2]
    assert found.params == sum(p.numel() for p in latency.create_model("small_vit", num_classes=5).parameters())
    assert found.device.startswith("CPU (")
    with pytest.raises(KdbenchError, match="small_vit"):
        latency_of("small_vitt")


def test_the_command(capsys):
    assert main(["latency", "small_cnn", "small_mixer", "--classes", "3", "--threads", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["small_cnn", "small_mixer"]
    assert all([one["batch"] for one in row["latencies"]] == [1, 32] for row in rows)
    assert {row["device"] for row in rows} == {"CPU (1 thread)"}
    assert main(["latency", "small_cnn", "--size", "16"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["network", "million"]
    assert [line.split()[2:4] for line in lines] == [["16", "1"], ["16", "32"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["small_cn"], "did you mean 'small_cnn'"),
        (["small_cnn", "--device", "cuda:77"], "no device 'cuda:77'"),
        (["small_cnn", "--classes", "0"], "expects a whole number from 1"),
        (["small_cnn", "--size", "-3"], "expects a whole number from 0"),
    ],
)
def test_bad_words(capsys, words, said):
    assert main(["latency", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
