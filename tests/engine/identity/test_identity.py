"""What a run, a cache and a teacher's accuracy are keyed by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from replicas import class_tree

import kdbench
from kdbench.data.build import build_data
from kdbench.data.source import MemorySplit
from kdbench.data.teacher_cache.cache import cache_folders
from kdbench.engine import run as run_module
from kdbench.engine.parts import make_loader
from kdbench.engine.runtime import Runtime
from kdbench.engine.session import cohort as cohort_module
from kdbench.engine.session.locate import locate
from kdbench.engine.teacher import gate as gate_module
from kdbench.engine.teacher.source import TeacherSource
from kdbench.models.weights.read import state_sha256

FAST = {
    "SOLVER.EPOCHS": 1,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.EVAL_EVERY": 1,
    "DATASET.REPEAT": 1,
    "DATASET.NUM_WORKERS": 0,
}
PUBLISHED = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "timm:resnet10t", "TEACHER.WEIGHTS": "pretrained"}


def digits(folder, **extra):
    return kdbench.load_config("configs/digits/student.yaml", {**FAST, "LOG.PREFIX": str(folder), **extra})


def taught(folder, teacher, **extra):
    named = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_mixer", "TEACHER.WEIGHTS": str(teacher)}
    return digits(folder, **{**named, **extra})


def name_of(cfg) -> str:
    return locate(cfg, build_data(cfg))[0].path.name


def source_of(cfg) -> TeacherSource:
    data, runtime = build_data(cfg), Runtime(torch.device("cpu"))
    return TeacherSource(cfg, data, make_loader(cfg, data, runtime), runtime, "sha")


def test_published_weights_are_their_release(tmp_path, monkeypatch):
    cfg = digits(tmp_path, **PUBLISHED)
    before = name_of(cfg)
    monkeypatch.setattr(timm, "__version__", "99.0")
    assert name_of(cfg) != before
    own = digits(tmp_path, **{"DISTILLER.STUDENT": "timm:resnet10t", "STUDENT.WEIGHTS": "pretrained"})
    before = name_of(own)
    monkeypatch.setattr(timm, "__version__", "98.0")
    assert name_of(own) != before


def test_record_of_published_weights_is_a_hash_of_them(tmp_path):
    network = timm.create_model("resnet10t", num_classes=10)
    torch.save(network.state_dict(), tmp_path / "published.pth")
    overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "published.pth"), "num_classes": 10}}
    fake = {
        "DATASET.TYPE": "fake",
        "DATASET.OPTIONS": {"train": 32, "test": 16},
        "DATASET.PER_CLASS": 0,
        "AUGMENT.PAD": 1,
    }
    settings = {
        **PUBLISHED,
        **fake,
        "TEACHER.OPTIONS": overlay,
        "CACHE.ENABLED": True,
        "CACHE.DIR": str(tmp_path / "cache"),
    }
    for method in ("KD", "DKD"):  # the second run does not build the teacher
        result = kdbench.train(digits(tmp_path, **{**settings, "DISTILLER.TYPE": method}))
        assert result.teacher_sha256 == state_sha256(network.state_dict())


def test_a_replaced_file_changes_the_cache_and_not_the_run(tmp_path):
    tree = class_tree(tmp_path / "set", ["cat", "dog"], {"train": 2, "val": 1})
    cfg = kdbench.load_config(overrides={"DATASET.TYPE": f"folder:{tree}"})
    before = build_data(cfg)
    first = (before.fingerprint(), before.stamp(), before.stamp("test"))
    file = next((tree / "train" / "cat").iterdir())
    file.write_bytes(bytes(len(file.read_bytes())))
    after = build_data(cfg)
    assert after.fingerprint() == first[0]
    assert after.stamp() != first[1]
    assert after.stamp("test") == first[2]


def test_where_a_folder_of_images_lies_is_no_part_of_a_run(tmp_path):
    class_tree(tmp_path / "one", ["cat", "dog"], {"train": 2, "val": 1})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    kinds = [f"folder:{tmp_path / 'one'}", f"folder:{tmp_path / 'two'}", f"Folder:{tmp_path / 'two'}"]
    assert len({name_of(digits(tmp_path, **{"DATASET.TYPE": kind, "DATASET.PER_CLASS": 0})) for kind in kinds}) == 1


def test_case_of_names_is_no_part_of_a_run(tmp_path, digits_teacher):
    lower = taught(tmp_path, digits_teacher)
    upper = taught(
        *(tmp_path, digits_teacher),
        **{"DISTILLER.TEACHER": "SMALL_MIXER", "DISTILLER.STUDENT": "Small_CNN", "DISTILLER.TYPE": "kd"},
    )
    assert name_of(lower) == name_of(upper)
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    for teacher in ("small_mixer", "SMALL_MIXER"):
        kdbench.train(taught(tmp_path, digits_teacher, **cached, **{"DISTILLER.TEACHER": teacher}))
    assert len(cache_folders(tmp_path / "cache")) == 1
    assert len(list(tmp_path.glob("*/result.json"))) == 1


def test_teachers_accuracy_is_keyed_by_what_decides_over_it(tmp_path, digits_teacher):
    base = source_of(taught(tmp_path, digits_teacher)).gate_key
    same = [
        {"DATASET.PER_CLASS": 5},
        {"DATASET.SUBSET_SEED": 9},
        {"TEACHER.STAGES": [0]},
        {"TEACHER.FREEZE": "backbone"},
    ]
    for change in same:
        assert source_of(taught(tmp_path, digits_teacher, **change)).gate_key == base, change
    for change in (
        {"TEACHER.NORM": "none"},
        {"TEACHER.OPTIONS.depth": 2},
        {"DATASET.IMAGE_SIZE": 16},
        {"TEACHER.INPUT_SIZE": 16},
    ):
        assert source_of(taught(tmp_path, digits_teacher, **change)).gate_key != base, change


def test_stages_share_a_cache_and_not_a_spec(tmp_path, digits_teacher):
    cached = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    kdbench.train(taught(tmp_path, digits_teacher, **cached))
    other = taught(tmp_path, digits_teacher, **cached, **{"TEACHER.STAGES": [0, 2], "DISTILLER.TYPE": "DKD"})
    kdbench.train(other)
    (folder,) = cache_folders(tmp_path / "cache")
    assert len(list(folder.glob("view*.bin"))) == 1
    both = [_with_sha(cfg).spec for cfg in (other, taught(tmp_path, digits_teacher, **cached))]
    assert [len(spec.stages) for spec in both] == [2, 3]


def _with_sha(cfg) -> TeacherSource:
    data, runtime = build_data(cfg), Runtime(torch.device("cpu"))
    return TeacherSource(cfg, data, make_loader(cfg, data, runtime), runtime, locate(cfg, data)[1]["teacher_sha256"])


def test_the_data_are_read_once_for_their_fingerprint(tmp_path, digits_teacher, monkeypatch):
    digested = []
    digest = MemorySplit.digest
    monkeypatch.setattr(MemorySplit, "digest", lambda self: digested.append(len(self)) or digest(self))
    kdbench.train(taught(tmp_path, digits_teacher, **{"CACHE.ENABLED": True}))
    assert sorted(digested) == [100, 500]


def test_measuring_reads_images_in_advance(tmp_path, digits_teacher, monkeypatch):
    seen = []
    for module in (run_module, gate_module):
        score = module.score
        monkeypatch.setattr(module, "score", lambda *a, _score=score, **k: seen.append(k["workers"]) or _score(*a, **k))
    tuned = []
    for module in (run_module, cohort_module):
        monkeypatch.setattr(module, "tune_malloc", lambda: tuned.append(True))
    result = kdbench.train(taught(tmp_path, digits_teacher, **{"DATASET.NUM_WORKERS": 3}))
    kdbench.evaluate(digits(tmp_path, **{"DATASET.NUM_WORKERS": 3}), str(Path(result.folder) / "student.safetensors"))
    assert seen == [3, 3]
    assert len(tuned) == 2


@pytest.mark.parametrize("content", ["", '{"run_id": ', "[]", '{"run_id": "x"}', b"\xff\xfe"])
def test_a_damaged_result_is_set_aside_and_made_anew(tmp_path, caplog, content):
    first = kdbench.train(digits(tmp_path))
    result = Path(first.folder) / "result.json"
    result.write_bytes(content if isinstance(content, bytes) else content.encode())
    trained = []
    again = kdbench.train(digits(tmp_path), progress=lambda *step: trained.append(step))
    assert not trained  # the checkpoint of the last epoch is there
    assert (again.run_id, again.top1_last) == (first.run_id, first.top1_last)
    assert json.loads(result.read_text())["top1_last"] == first.top1_last
    assert result.with_name("result.json.damaged").exists()
    assert "cannot be read" in caplog.text


def test_peak_memory_is_recorded_on_a_cpu(tmp_path):
    result = kdbench.train(digits(tmp_path))
    (line,) = [json.loads(text) for text in (Path(result.folder) / "timing.jsonl").read_text().splitlines()]
    assert 1e8 < line["peak_rss_bytes"] < 1e11


@pytest.mark.parametrize(("key", "value"), [("top1_last", 99.0), ("seed", 7), ("method", "DKD"), ("epochs", 77)])
def test_a_changed_result_is_not_believed(tmp_path, caplog, key, value):
    first = kdbench.train(digits(tmp_path))
    file = Path(first.folder) / "result.json"
    record = json.loads(file.read_text())
    assert record[key] != value
    file.write_text(json.dumps({**record, key: value}))
    assert kdbench.train(digits(tmp_path)).top1_last == first.top1_last
    assert json.loads(file.read_text())[key] == record[key]
    assert "its content is not what was written" in caplog.text
    assert file.with_name("result.json.damaged").is_file()


def flip_last_bit(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_an_exported_student_whose_bits_flipped_is_exported_again(tmp_path, caplog):
    first = kdbench.train(digits(tmp_path))
    student = Path(first.folder) / "student.safetensors"
    content = student.read_bytes()
    flip_last_bit(student)
    trained = []
    assert kdbench.train(digits(tmp_path), progress=lambda *step: trained.append(step)).top1_last == first.top1_last
    assert student.read_bytes() == content
    assert not trained
    assert "student.safetensors is not what was written" in caplog.text


def test_a_result_from_before_that_was_recorded_is_believed(tmp_path):
    first = kdbench.train(digits(tmp_path))
    file = Path(first.folder) / "result.json"
    older = {key: value for key, value in json.loads(file.read_text()).items() if key not in ("student_sha256", "seal")}
    file.write_text(json.dumps(older))
    assert kdbench.train(digits(tmp_path)).student_sha256 == ""
    assert json.loads(file.read_text()) == older
