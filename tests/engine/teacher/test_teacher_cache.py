"""The teacher-output cache: same run with or without, no teacher in memory, whole views only, never wrong data."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mutations import mutations

import kdbench
from kdbench.bench.results.run_files import read_lines, timing_of
from kdbench.cli.main import main
from kdbench.data.teacher_cache.cache import (
    TeacherCache,
    ViewShape,
    ViewWriter,
    cache_folders,
    cache_key,
    folder_bytes,
)
from kdbench.engine.teacher import source as teacher_module
from kdbench.errors import DataError
from kdbench.models.spec import ModelSpec
from kdbench.seal import sealed

BASE = {
    "DISTILLER.TEACHER": "small_mixer",
    "SOLVER.EPOCHS": 2,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.EVAL_EVERY": 1,
    "DATASET.REPEAT": 2,
    "DATASET.NUM_WORKERS": 0,
}


def configure(folder, teacher, method="KD", **extra):
    settings = {**BASE, "LOG.PREFIX": str(folder), "TEACHER.WEIGHTS": str(teacher), "DISTILLER.TYPE": method, **extra}
    return kdbench.load_config("configs/digits/student.yaml", settings)


def metrics(result) -> bytes:
    return (Path(result.folder) / "metrics.jsonl").read_bytes()


@pytest.fixture
def weights(tmp_path, digits_teacher):
    return Path(shutil.copy(digits_teacher, tmp_path / "teacher.safetensors"))


@pytest.fixture
def no_teacher(monkeypatch):
    """Building the teacher's network is an error from here on."""

    def refuse(*args, **kwargs):
        raise AssertionError("the teacher was built")

    def activate():
        monkeypatch.setattr(teacher_module, "build_teacher", refuse)

    return activate


@pytest.mark.parametrize("method", ["KD", "HCD", "OFA", "CRD"])
def test_fp32_cache_equals_the_live_teacher_bit_for_bit(tmp_path, weights, no_teacher, method):
    live = kdbench.train(configure(tmp_path / "live", weights, method))
    cached = {"CACHE.ENABLED": True, "CACHE.DTYPE": "fp32", "CACHE.DIR": str(tmp_path / "cache")}
    filled = kdbench.train(configure(tmp_path / "filled", weights, method, **cached))
    weights.unlink()
    no_teacher()
    read = kdbench.train(configure(tmp_path / "read", weights, method, **cached))
    assert metrics(live) == metrics(filled) == metrics(read)
    uses = [[line.get("cache") for line in read_lines(Path(r.folder) / "timing.jsonl")] for r in (live, filled, read)]
    assert uses == [[None] * 2, ["fills"] * 2, ["reads"] * 2]
    assert ["seconds_per_epoch" in timing_of(r.folder) for r in (live, filled, read)] == [True, False, True]


def test_filling_and_reading_are_the_same_run_in_fp16(tmp_path, weights, no_teacher):
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    live = kdbench.train(configure(tmp_path / "live", weights))
    filled = kdbench.train(configure(tmp_path / "filled", weights, **cached))
    no_teacher()
    read = kdbench.train(configure(tmp_path / "read", weights, **cached))
    assert metrics(filled) == metrics(read)
    losses = [json.loads(metrics(r).splitlines()[0])["train"]["kd"] for r in (live, filled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] != losses[1]


def test_second_method_finishes_without_the_teacher(tmp_path, weights, no_teacher):
    """Two runs fill one epoch at once; then the file is deleted and the builder raises; another method still finishes, with the
    metrics of a live run through the same storage dtype."""
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    # the reference fills a cache of its own, so that its teacher is live
    reference = kdbench.train(
        configure(tmp_path / "r", weights, "HCD", **{**cached, "CACHE.DIR": str(tmp_path / "own")})
    )

    def fill(method):
        kdbench.train(configure(tmp_path / method, weights, method, **cached))

    context = multiprocessing.get_context("fork")
    both = [context.Process(target=fill, args=(method,)) for method in ("KD", "DKD")]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    views = [f for folder in cache_folders(tmp_path / "cache") for f in folder.glob("*")]
    assert sorted(f.name for f in views) == ["meta.json", "view00001.bin", "view00002.bin"]
    weights.unlink()
    no_teacher()
    last = kdbench.train(configure(tmp_path / "last", weights, "HCD", **cached))
    assert metrics(last) == metrics(reference)


def test_shared_augmentation_serves_all_seeds(tmp_path, weights, no_teacher):
    cached = {
        "CACHE.ENABLED": True,
        "CACHE.DIR": str(tmp_path / "cache"),
        "DATASET.AUG_SEED": 7,
        "DATASET.SUBSET_SEED": 3,
    }
    kdbench.train(configure(tmp_path, weights, **cached))
    no_teacher()
    kdbench.train(configure(tmp_path, weights, **cached, **{"EXPERIMENT.SEED": 2}))
    assert len(cache_folders(tmp_path / "cache")) == 1


def test_own_streams_make_a_cache_each(tmp_path, weights):
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    for seed in (1, 2):
        kdbench.train(configure(tmp_path, weights, **cached, **{"EXPERIMENT.SEED": seed}))
    assert len(cache_folders(tmp_path / "cache")) == 2


def test_views_are_used_in_turn(tmp_path, weights):
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache"), "CACHE.VIEWS": 2, "SOLVER.EPOCHS": 5}
    kdbench.train(configure(tmp_path, weights, **cached))
    (folder,) = cache_folders(tmp_path / "cache")
    assert len(list(folder.glob("view*.bin"))) == 2


def test_with_mixup_the_cache_replays_pairs(tmp_path, weights, no_teacher):
    cached = {"CACHE.ENABLED": True, "CACHE.DTYPE": "fp32", "CACHE.DIR": str(tmp_path / "cache"), "AUGMENT.MIXUP": 0.8}
    live = kdbench.train(configure(tmp_path / "live", weights, **{"AUGMENT.MIXUP": 0.8}))
    filled = kdbench.train(configure(tmp_path / "filled", weights, **cached))
    no_teacher()
    read = kdbench.train(configure(tmp_path / "read", weights, **cached))
    assert metrics(live) == metrics(filled) == metrics(read)


def test_method_that_needs_stages_runs_live(tmp_path, weights, caplog):
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    caplog.set_level("INFO", "kdbench")
    kdbench.train(configure(tmp_path, weights, "FITNET", **cached))
    assert "runs with the live teacher" in caplog.text
    assert not cache_folders(tmp_path / "cache")


def test_teachers_accuracy_is_measured_once(tmp_path, weights, monkeypatch):
    kdbench.train(configure(tmp_path, weights))
    monkeypatch.setattr(teacher_module, "judge", lambda *a, **k: pytest.fail("measured again"))
    result = kdbench.train(configure(tmp_path, weights, "DKD"))
    assert result.teacher_top1 > 80


@pytest.mark.parametrize("damage", ["cut", "flip", "version", "content", "garbage"])
def test_damaged_cache_is_never_used(tmp_path, weights, damage, caplog):
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    first = kdbench.train(configure(tmp_path / "a", weights, **cached))
    (folder,) = cache_folders(tmp_path / "cache")
    view, meta = folder / "view00001.bin", folder / "meta.json"
    data = bytearray(view.read_bytes())
    if damage == "cut":
        view.write_bytes(data[:-7])
    elif damage == "flip":
        data[40] ^= 1
        view.write_bytes(data)
    elif damage == "version":
        meta.write_text(json.dumps(sealed({**json.loads(meta.read_text()), "version": 99})))
    elif damage == "content":
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "stages": "auto", "spec": {}}))
    else:
        meta.write_text("{")
    again = kdbench.train(configure(tmp_path / "b", weights, **cached))
    assert metrics(first) == metrics(again)
    assert {
        "cut": "damaged",
        "flip": "damaged",
        "version": "of version 99",
        "content": "meta.json.damaged",
        "garbage": "meta.json.damaged",
    }[damage] in caplog.text


def test_full_disk_goes_on_live(tmp_path, weights, monkeypatch, caplog):
    def full(*args):
        raise OSError(28, "No space left on device")

    live = kdbench.train(
        configure(tmp_path / "live", weights, **{"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "c1")})
    )
    monkeypatch.setattr("kdbench.data.teacher_cache.view.os.posix_fallocate", full)
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "c2")}
    result = kdbench.train(configure(tmp_path / "full", weights, **cached))
    assert metrics(result) == metrics(live)
    assert "No space left on device); training goes on with the live teacher" in caplog.text
    assert not list((tmp_path / "c2").rglob("view*.bin"))


def test_unwritable_folder_goes_on_live(tmp_path, weights, caplog):
    (tmp_path / "file").write_text("")
    result = kdbench.train(configure(tmp_path, weights, **{"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "file")}))
    assert result.top1_last > 0
    assert "cannot be written" in caplog.text


def test_budget_evicts_the_oldest_and_then_goes_live(tmp_path):
    layout = ViewShape(rows=100, classes=10, width=6, dtype="fp16")
    budget = int(2.5 * layout.view_bytes)

    def fill(name, view):
        cache = TeacherCache(tmp_path, name, budget)
        cache.write_meta({})
        assert cache.make_room(layout.view_bytes)
        writer = ViewWriter(cache, view, layout, "run")
        writer.write(torch.arange(100), torch.ones(100, 10).half(), torch.ones(100, 6).half())
        writer.commit()
        return cache

    fill("a", 1)
    os.utime(tmp_path / "a", (1, 1))
    fill("b", 1)
    third = fill("c", 1)
    assert [f.name for f in cache_folders(tmp_path)] == ["b", "c"]
    assert not TeacherCache(tmp_path, "d", 10).make_room(layout.view_bytes)
    rows = third.open(1, layout)
    assert np.array_equal(rows, np.ones((100, 16), dtype=np.float16))
    assert folder_bytes(tmp_path / "c") > layout.view_bytes


def test_rows_that_nobody_wrote_are_asked_of_the_network(tmp_path, weights):
    """100 draws at batch 33: the last one is dropped, and another order needs it."""
    shared = {
        "DATASET.AUG_SEED": 7,
        "SOLVER.BATCH_SIZE": 33,
        "DATASET.PER_CLASS": 10,
        "DATASET.SUBSET_SEED": 3,
        "DATASET.REPEAT": 1,
    }
    cached = {**shared, "CACHE.ENABLED": True, "CACHE.DTYPE": "fp32", "CACHE.DIR": str(tmp_path / "cache")}
    kdbench.train(configure(tmp_path / "a", weights, **cached))
    read = kdbench.train(configure(tmp_path / "b", weights, **cached, **{"EXPERIMENT.SEED": 2}))
    live = kdbench.train(configure(tmp_path / "c", weights, **shared, **{"EXPERIMENT.SEED": 2}))
    for one, two in zip(metrics(read).splitlines(), metrics(live).splitlines()):
        assert json.loads(one)["train"]["kd"] == pytest.approx(json.loads(two)["train"]["kd"], rel=1e-5)


def test_key_depends_on_every_part():
    parts = {"a": 1, "b": [1, 2]}
    assert cache_key(parts) != cache_key({**parts, "b": [1, 3]})
    assert cache_key(parts) == cache_key(dict(reversed(parts.items())))


def test_specs_survive_the_record():
    spec = kdbench.create_model("small_vit", num_classes=10, class_token=True).spec
    again = ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec


def make_view(cache: TeacherCache, layout: ViewShape, view: int = 1) -> None:
    cache.write_meta({})
    writer = ViewWriter(cache, view, layout, "run")
    writer.write(
        torch.arange(layout.rows), *(torch.ones(layout.rows, n).half() for n in (layout.classes, layout.width))
    )
    writer.commit()


LAYOUT = ViewShape(rows=100, classes=10, width=6, dtype="fp16")


def test_another_run_evicts_while_this_one_looks(tmp_path, monkeypatch):
    """Files and folders that were listed are gone when they are asked for."""
    caches = [TeacherCache(tmp_path, name, 10 * LAYOUT.view_bytes) for name in ("a", "b", "c")]
    for cache in caches:
        make_view(cache, LAYOUT)
    listed = cache_folders(tmp_path)
    shutil.rmtree(tmp_path / "b")
    monkeypatch.setattr("kdbench.data.teacher_cache.cache.cache_folders", lambda root: listed)
    assert folder_bytes(tmp_path / "b") == 0
    assert caches[0].make_room(LAYOUT.view_bytes)
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    assert caches[1].open(1, LAYOUT) is None


def test_a_folder_that_another_run_is_making_is_left_alone(tmp_path):
    """Between the other run's mkdir and the moment when its record has its name."""
    one, two = (TeacherCache(tmp_path, "k", 10 * LAYOUT.view_bytes) for _ in range(2))
    one.folder.mkdir()
    (one.folder / ".meta.json.1").write_text("{}")
    two.write_meta({"from": "two"})
    assert (one.folder / ".meta.json.1").exists()
    one.write_meta({"from": "one"})  # later than two: what is there stays
    assert two.read_meta()["from"] == "two"


def test_failed_reservation_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    cache = TeacherCache(tmp_path, "k", 10 * LAYOUT.view_bytes)
    cache.write_meta({})
    monkeypatch.setattr("kdbench.data.teacher_cache.view.os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        ViewWriter(cache, 1, LAYOUT, "run")
    assert [f.name for f in cache.folder.iterdir()] == ["meta.json"]


def test_system_without_reservation(tmp_path, monkeypatch):
    monkeypatch.delattr("kdbench.data.teacher_cache.view.os.posix_fallocate")
    cache = TeacherCache(tmp_path, "k", 10 * LAYOUT.view_bytes)
    make_view(cache, LAYOUT)
    assert np.array_equal(cache.open(1, LAYOUT), np.ones((100, 16), dtype=np.float16))


def test_what_killed_runs_left_is_counted_and_swept(tmp_path):
    cache = TeacherCache(tmp_path, "k", 3 * LAYOUT.view_bytes)
    make_view(cache, LAYOUT)
    left = cache.folder / ".view00002.dead.tmp"
    orphan = tmp_path / "0123456789abcdef"
    orphan.mkdir()
    for file in (left, orphan / ".view00001.dead.tmp"):
        file.write_bytes(bytes(LAYOUT.view_bytes))
    foreign = tmp_path / "photographs"
    foreign.mkdir()
    assert not cache.make_room(LAYOUT.view_bytes)  # both may be in use
    for path in (left, orphan / ".view00001.dead.tmp", orphan, foreign):
        os.utime(path, (1e9, 1e9))
    assert cache.make_room(LAYOUT.view_bytes)
    assert not left.exists()
    assert not orphan.exists()
    assert foreign.exists()


@pytest.mark.parametrize(("damage", "dtype", "cause"), [(3e38, "fp32", "NaN or infinite"), (1e6, "fp16", "16 bits")])
def test_outputs_that_cannot_be_stored_are_named_by_their_cause(tmp_path, damage, dtype, cause):
    teacher = kdbench.create_model("small_cnn", num_classes=10, seed=0)
    teacher.backbone.fc.bias.data.fill_(damage)
    teacher.backbone.fc.weight.data.fill_(damage)  # finite, but twice as much is not
    torch.save(teacher.backbone.state_dict(), tmp_path / "teacher.pt")
    settings = {"DATASET.TYPE": "fake", "DATASET.OPTIONS": {"size": 8, "train": 32, "test": 16}, "DATASET.PER_CLASS": 0}
    named = {"DISTILLER.TEACHER": "small_cnn", "TEACHER.NORM": "none", "CACHE.ENABLED": True, "CACHE.DTYPE": dtype}
    with pytest.raises(DataError, match=cause):
        kdbench.train(configure(tmp_path, tmp_path / "teacher.pt", **settings, **named))


def test_the_rows_of_another_view_are_none_of_this_one(tmp_path):
    """Of another epoch, or of another key."""
    one, two = (TeacherCache(tmp_path, name, 10 * LAYOUT.view_bytes) for name in ("a", "b"))
    make_view(one, LAYOUT)
    assert one.open(1, LAYOUT) is not None
    two.folder.mkdir()
    for cache, view in ((one, 2), (two, 1)):
        shutil.copy(one.path(1), cache.path(view))
        assert cache.open(view, LAYOUT) is None
        assert not cache.path(view).exists()


def test_a_view_of_an_earlier_version_is_read(tmp_path):
    cache = TeacherCache(tmp_path, "a", 10 * LAYOUT.view_bytes)
    make_view(cache, LAYOUT)
    rows = cache.path(1).read_bytes()[:-16]
    cache.path(1).write_bytes(rows + b"kdbenchT" + zlib.crc32(rows).to_bytes(8, "little"))
    assert cache.open(1, LAYOUT) is not None
    cache.path(1).write_bytes(rows[:-1] + b"?" + b"kdbenchT" + zlib.crc32(rows).to_bytes(8, "little"))
    assert cache.open(1, LAYOUT) is None


def test_every_accident_of_a_record_is_found_and_it_is_made_anew(tmp_path, caplog):
    cache = TeacherCache(tmp_path, "a", 10 * LAYOUT.view_bytes)
    meta = {"key": {"teacher": {"name": "t"}}, "layout": asdict(LAYOUT), "spec": {"name": "t"}, "stages": "auto"}
    cache.write_meta(meta)
    make_view(cache, LAYOUT)
    file = cache.folder / "meta.json"
    for what, changed in mutations(file.read_bytes()):
        caplog.clear()
        file.write_bytes(changed)
        found = cache.read_meta()
        assert (found is None) == (len(caplog.messages) == 1), what
        if found is not None and not what.startswith("no seal"):
            assert meta.items() <= found.items(), what
        cache.write_meta(meta)
        if found is None:
            assert meta.items() <= (cache.read_meta() or {}).items(), what
        (cache.folder / "meta.json.damaged").unlink(missing_ok=True)
    assert main(["cache", "ls", "--dir", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    "change", [{"rows": 0}, {"classes": -1}, {"width": 1.5}, {"rows": True}, {"dtype": "int8"}, {"dtype": []}]
)
def test_a_shape_that_no_view_has(change):
    with pytest.raises(ValueError, match="of a view is"):
        ViewShape(**{**asdict(LAYOUT), **change})
