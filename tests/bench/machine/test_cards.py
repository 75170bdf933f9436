"""The memory of GPUs: who has room beside whom, and what is asked of whom."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
import torch

from kdbench.bench.machine.cards import CONTEXT, SHARE, Card, CardRoom, memory_report, query_cards, release_memory

GB = 10**9


def room(total=100 * GB, **measures):
    return CardRoom(total, {kind: size * GB for kind, size in measures.items()})


def test_as_many_as_fit_into_the_share_of_the_memory():
    card = room(KD=20)
    begun = 0
    while card.fits("KD", fresh=True):
        card.enter(begun, "KD")
        card.processes += 1
        begun += 1
    assert begun == int(SHARE * 100 * GB // (20 * GB + CONTEXT)) == 4
    assert card.fits("KD") is False
    card.leave(0)
    assert card.fits("KD")


def test_idle_workers_and_other_programs_take_memory_too():
    card = room(KD=40)
    card.enter(0, "KD")
    card.processes = 1
    assert card.fits("KD", fresh=True)
    card.processes = 8
    assert not card.fits("KD", fresh=True)
    card.processes = 1
    card.report("KD", {"gpu_total": 100 * GB, "gpu_free": 20 * GB, "gpu_bytes": 40 * GB})
    assert card.elsewhere == 40 * GB - CONTEXT
    assert not card.fits("KD")


def test_a_task_of_unknown_memory_is_alone_until_it_is_measured():
    card = room(KD=10)
    card.enter(0, "CRD")
    assert (card.is_open, card.fits("KD"), card.fits("CRD")) == (False, False, False)
    card.report("CRD", {"gpu_total": 100 * GB, "gpu_free": 95 * GB, "gpu_bytes": 5 * GB})
    assert (card.is_open, card.fits("KD"), card.fits("CRD"), card.fits("DKD")) == (True, True, True, False)
    card.report("CRD", {"gpu_total": 100 * GB, "gpu_free": 95 * GB, "gpu_bytes": 3 * GB})
    assert card.measures["CRD"] == 5 * GB  # the largest of a kind counts
    assert not card.leave(0)


def test_a_card_of_unknown_size_takes_one_until_its_worker_tells():
    card = room(total=0, KD=10)
    assert card.fits("KD")
    card.enter(0, "KD")
    assert not card.fits("KD")
    card.report("KD", {"gpu_total": 40 * GB, "gpu_free": 30 * GB, "gpu_bytes": 9 * GB})
    assert card.fits("KD")


def test_one_that_must_be_alone_waits_and_lets_nobody_in():
    card = room(KD=10)
    card.enter(0, "KD")
    assert not card.fits("KD", alone=True)
    card.enter(1, "KD")
    assert card.leave(0)
    assert card.leave(1)  # it had company, though it has none now
    assert card.fits("KD", alone=True)
    card.enter(2, "KD", alone=True)
    assert not card.fits("KD")
    assert not card.leave(2)


def test_without_a_guard_everybody_comes_in():
    card = CardRoom(0, {}, guarded=False)
    for number in range(9):
        assert card.fits("KD")
        card.enter(number, "KD")
    assert not card.fits("KD", alone=True)


def test_nvidia_smi_is_asked_and_not_cuda(monkeypatch):
    asked = []

    def answer(words, **_):
        asked.append(words[words.index("-i") + 1])
        if asked[-1] == "9":
            raise subprocess.CalledProcessError(6, words)
        return SimpleNamespace(stdout={"0": "NVIDIA H100 80GB HBM3, 81559\n", "MIG-1": "x, [N/A]\n"}[asked[-1]])

    monkeypatch.setattr(subprocess, "run", answer)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("a context in this process"))
    assert query_cards(["0", "MIG-1", "9"]) == [Card("NVIDIA H100 80GB HBM3", 81559 * 2**20), Card(), Card()]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("nvidia-smi")))
    assert query_cards(["0"]) == [Card()]


def test_a_worker_tells_what_it_took_and_gives_it_back(monkeypatch):
    calls = []
    assert memory_report() == {}
    release_memory()  # nothing to do on a CPU
    for name, value in {
        "is_available": True,
        "is_initialized": True,
        "mem_get_info": (3, 8),
        "max_memory_reserved": 5,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: calls.append(name))
    assert memory_report() == {"gpu_total": 8, "gpu_free": 3, "gpu_bytes": 5}
    release_memory()
    assert calls == ["empty_cache", "reset_peak_memory_stats"]
