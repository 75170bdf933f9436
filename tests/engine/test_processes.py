"""Two processes of one run, forked and joined by gloo: they decide alike, count every sample once, and end in one network."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import kdbench
from kdbench.data.teacher_cache.cache import TeacherCache, ViewWriter, cache_folders
from kdbench.engine.teacher import records as teacher_records

FAST = {
    "SOLVER.EPOCHS": 3,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.EVAL_EVERY": 1,
    "DATASET.REPEAT": 2,
    "DATASET.NUM_WORKERS": 0,
    "RUNTIME.DEVICE": "cpu",
}


def digits(folder, teacher="", **extra):
    settings = {**FAST, "LOG.PREFIX": str(folder), **extra}
    if teacher:
        settings |= {"DISTILLER.TEACHER": "small_mixer", "TEACHER.WEIGHTS": str(teacher), "DISTILLER.TYPE": "KD"}
    return kdbench.load_config("configs/digits/student.yaml", settings)


def fake(folder, train: int, **extra):
    settings = {
        **{"DATASET.TYPE": "fake", "DATASET.OPTIONS": {"size": 8, "train": train, "test": 32}},
        **{"DISTILLER.STUDENT": "small_mixer", "AUGMENT.CROP": "none", "AUGMENT.FLIP": 0.5, "SOLVER.BATCH_SIZE": 16},
        **{"SOLVER.EPOCHS": 2, "SOLVER.LR": 0.05, "DATASET.NUM_WORKERS": 0, "LOG.PREFIX": str(folder)},
    }
    return kdbench.load_config(overrides={**settings, **extra})


def together(cfg, before: Callable[[int], None] = lambda rank: None, seconds: int = 90) -> Path:
    """The folder of a run over two processes; ``before(rank)`` runs first in each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def child(rank: int) -> None:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
        os.environ.update(place)
        before(rank)
        kdbench.train(cfg)

    context = multiprocessing.get_context("fork")
    both = [context.Process(target=child, args=(rank,)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(seconds)
    hanging = [process for process in both if process.is_alive()]
    for process in hanging:
        process.kill()
        process.join()
    assert not hanging, "the processes wait for each other"
    assert [process.exitcode for process in both] == [0, 0]
    (folder,) = [file.parent for file in Path(cfg.LOG.PREFIX).rglob("result.json")]
    return folder


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_cache_that_cannot_be_written_stops_nobody(tmp_path, digits_teacher):
    (tmp_path / "file").write_text("")
    cached = {"CACHE.ENABLED": True, "CACHE.DTYPE": "fp32"}
    blocked = together(digits(tmp_path / "a", digits_teacher, **cached, **{"CACHE.DIR": str(tmp_path / "file")}))
    filled = together(digits(tmp_path / "b", digits_teacher, **cached, **{"CACHE.DIR": str(tmp_path / "cache")}))
    assert lines(blocked) == lines(filled)
    assert len(list((tmp_path / "cache").rglob("view*.bin"))) == 3


def test_another_number_of_processes_is_another_run(tmp_path):
    """Batch norm sees halves of a batch, so that the results differ."""
    both = together(digits(tmp_path))
    alone = Path(kdbench.train(digits(tmp_path)).folder)
    assert both.name != alone.name
    worlds = [json.loads((run / "result.json").read_text())["environment"]["world_size"] for run in (both, alone)]
    assert worlds == [2, 1]
    assert len({(run / "student.safetensors").read_bytes() for run in (both, alone)}) == 2


@pytest.mark.parametrize("step", ["create", "open", "commit"])
def test_a_disk_that_fills_up_stops_nobody(tmp_path, digits_teacher, step):
    """The main process fails where it creates or publishes a view, or the other one where it opens the file."""

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    def before(rank: int) -> None:
        if rank == (step == "open"):
            setattr(ViewWriter, {"commit": "commit"}.get(step, "__init__"), full)

    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    together(digits(tmp_path / "a", digits_teacher, **cached), before)
    assert not [f for f in (tmp_path / "cache").rglob("*") if "view" in f.name]


def test_what_one_process_finds_and_another_not_is_no_decision(tmp_path, digits_teacher):
    """Another run publishes a view, or writes the teacher's accuracy, between the looks of two processes."""
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    first = together(digits(tmp_path / "a", digits_teacher, **cached))

    def before(rank: int) -> None:
        if rank == 1:
            look = TeacherCache.open
            TeacherCache.open = lambda self, view, layout: None if view == 2 else look(self, view, layout)

            def unreadable(text):
                raise ValueError

            teacher_records.json = types.SimpleNamespace(loads=unreadable, dumps=json.dumps)

    second = together(digits(tmp_path / "b", digits_teacher, **cached), before)
    assert lines(first) == lines(second)
    (folder,) = cache_folders(tmp_path / "cache")
    assert sorted(f.name for f in folder.iterdir()) == ["meta.json", *(f"view{i:05d}.bin" for i in (1, 2, 3))]


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_exported_network_is_the_evaluated_one(tmp_path, decay):
    """Batch statistics differ between the processes; the student has one set of them."""
    cfg = digits(tmp_path, **{"SOLVER.EMA": decay})
    folder = together(cfg)
    score = kdbench.evaluate(cfg, str(folder / "student.safetensors"))
    last = lines(folder)[-1]
    assert (score.top1, score.top5) == (last["top1"], last["top5"])
    assert score.loss == pytest.approx(last["test_loss"], rel=1e-6)


def test_uneven_shares_of_a_batch_count_by_their_samples(tmp_path):
    """54 images at batch 16: the last batch has 6, of which the processes get 2 and 4. The network has no batch statistics, so
    that two processes compute what one does."""
    two = together(fake(tmp_path / "two", 54))
    one = Path(kdbench.train(fake(tmp_path / "one", 54)).folder)
    states = [torch.load(folder / "checkpoint.pt", weights_only=True)["student"] for folder in (one, two)]
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-6)
    for a, b in zip(lines(one), lines(two)):
        assert a["train"]["ce"] == pytest.approx(b["train"]["ce"], rel=1e-5)
        assert a["test_loss"] == pytest.approx(b["test_loss"], rel=1e-4)


def test_a_last_batch_too_small_for_all_is_dropped_by_all(tmp_path):
    """50 images at batch 16: the last batch of 2 is one pair, of which one process would get nothing."""
    folder = together(fake(tmp_path, 50, **{"DISTILLER.STUDENT": "small_cnn"}))
    assert all(line["train"]["ce"] > 0 for line in lines(folder))


def test_banks_take_uneven_shares(tmp_path):
    teacher = {"DISTILLER.TYPE": "CRD", "DISTILLER.TEACHER": "small_cnn", "CRD.NCE.K": 8}
    folder = together(fake(tmp_path, 54, **teacher))
    assert all(line["train"]["crd"] > 0 for line in lines(folder))
