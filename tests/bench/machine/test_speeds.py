"""What finished runs took, by kind: lines of their own, lines of several, other settings, other devices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from kdbench.bench.machine.cards import Card
from kdbench.bench.machine.speeds import Speeds, device_here, kind_of, speed_of
from kdbench.config.load import load_config, to_dict

STEP = {"seconds": 10.0, "data_seconds": 2.0, "images_per_second": 100.0}


def config(method="KD", teacher="small_mixer", **keys):
    own = {"DATASET.TYPE": "digits", "DISTILLER.TYPE": method, "DISTILLER.STUDENT": "small_cnn", **keys}
    return load_config(overrides={**own, **({"DISTILLER.TEACHER": teacher} if teacher else {})})


def run(folder, name, *lines, gpu="", processes=1, **keys):
    """A finished run with these lines of ``timing.jsonl`` after one that warms up."""
    place = Path(folder) / name
    place.mkdir(parents=True)
    cfg = config(**keys)
    (place / "config.yaml").write_text(yaml.safe_dump(to_dict(cfg)))
    rows = [{**STEP, "seconds": 99.0}, *({**STEP, **line} for line in lines)]
    (place / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = {
        "run_id": name,
        "method": cfg.DISTILLER.TYPE,
        "teacher": cfg.DISTILLER.TEACHER,
        "seed": 1,
        "top1_last": 5.0,
    }
    record |= {"student": cfg.DISTILLER.STUDENT, "dataset": cfg.DATASET.TYPE}
    facts = {"device": "cuda" if gpu else "cpu", "gpu": gpu, "world_size": processes}
    (place / "result.json").write_text(json.dumps({**record, "environment": facts}))
    return place


def kind(**keys):
    return kind_of(to_dict(config(**keys)))


def speeds(folder, device="cpu", processes=1):
    return Speeds(folder, device, processes, ["DIGITS"])


def test_images_of_all_grids_below_the_folder(tmp_path):
    run(tmp_path, "one/a", {})
    run(tmp_path, "other/deep/b", {"images_per_second": 50.0}, {"images_per_second": 50.0})
    found = speeds(tmp_path).of(kind())
    assert found.runs == 2
    assert found.alone == pytest.approx((1 / 100 + 1 / 50) / 2)
    assert found.within == pytest.approx(found.alone - found.once)
    assert found.once == pytest.approx((2 / 1000 + 2 / 500) / 2)
    assert found.images == pytest.approx((1000 + 500) / 2)
    assert found.size > 0
    assert speeds(tmp_path).of(kind(method="DKD")) is None


@pytest.mark.parametrize(
    "keys",
    [
        {"SOLVER.BATCH_SIZE": 8},
        {"SOLVER.PRECISION": "bf16"},
        {"AUGMENT.MIXUP": 0.5},
        {"DISTILLER.STUDENT": "small_mixer"},
        {"TEACHER.PRECISION": "bf16"},
        {"CACHE.ENABLED": True},
        {"STUDENT.OPTIONS": {"widths": [8, 8, 8]}},
    ],
)
def test_another_setting_is_another_kind(tmp_path, keys):
    run(tmp_path, "a", {})
    assert kind(**keys) != kind()
    assert speeds(tmp_path).of(kind(**keys)) is None
    assert speeds(tmp_path).nearest(kind(method="DKD", **keys)) is None


@pytest.mark.parametrize(
    "keys", [{"SOLVER.LR": 0.5}, {"EXPERIMENT.SEED": 9}, {"SOLVER.EPOCHS": 7}, {"KD.TEMPERATURE": 2.0}]
)
def test_the_rest_of_a_recipe_is_not(keys):
    assert kind(**keys) == kind()


def test_settings_of_a_teacher_do_not_tell_students_alone_apart():
    own = {"method": "Vanilla", "TEACHER.PRECISION": "bf16", "CACHE.ENABLED": True}
    assert kind(**own) == kind(method="vanilla", teacher="")


def test_other_devices_and_numbers_of_processes_say_nothing_of_this_one(tmp_path):
    run(tmp_path, "h100", {}, gpu="H100")
    run(tmp_path, "both", {}, gpu="H100 then A100")
    run(tmp_path, "two", {}, processes=2)
    assert speeds(tmp_path).of(kind()) is None
    assert speeds(tmp_path, "H100").of(kind()).runs == 1
    assert speeds(tmp_path, "").of(kind()).runs == 2
    assert speeds(tmp_path, processes=2).of(kind()).runs == 1


def test_a_line_of_several_is_a_cohorts_and_not_the_runs_own(tmp_path):
    several = {"together": 4, "peak_gpu_bytes": 900}
    mixed = speed_of(run(tmp_path, "a", {"peak_gpu_bytes": 100}, several, gpu="X"), gpu=True)
    assert (mixed.alone, mixed.within, mixed.once) == (1 / 100, 1 / 400, 0.0)
    assert mixed.gpu_bytes == 100
    only = speed_of(run(tmp_path, "b", several, gpu="X"), gpu=True)
    assert (only.alone, only.within, only.gpu_bytes) == (1 / 100, 1 / 400, 0)  # by itself it takes no longer than all
    single = speed_of(run(tmp_path, "c", {}, gpu="X"), gpu=True)
    assert single.within == single.alone == 1 / 100  # how far it overlaps with others is not known


def test_the_slowest_other_method_of_the_pair(tmp_path):
    run(tmp_path, "kd", {})
    run(tmp_path, "crd", {"images_per_second": 40.0}, method="CRD")
    run(tmp_path, "other", {"images_per_second": 1.0}, **{"DISTILLER.STUDENT": "small_mixer"})
    found = speeds(tmp_path)
    assert found.nearest(kind(method="DKD"))[0] == "CRD"
    assert found.nearest(kind(method="Vanilla", teacher=""))[0] == "CRD"
    assert found.nearest(kind(method="DKD", teacher="small_cnn")) is None


def test_damage_is_passed_over(tmp_path):
    good = run(tmp_path, "good", {})
    for name, file, text in (
        ("a", "result.json", "{"),
        ("b", "timing.jsonl", "{\n"),
        ("c", "timing.jsonl", ""),
        ("d", "config.yaml", "]["),
        ("e", "timing.jsonl", '{"seconds": 0, "images_per_second": 0, "data_seconds": 0}\n'),
    ):
        (run(tmp_path, name, {}) / file).write_text(text)
    assert speeds(tmp_path).of(kind()).runs == 1
    (good / "timing.jsonl").unlink()
    assert speeds(tmp_path).by_kind == {}
    assert Speeds(tmp_path / "nowhere", "cpu", 1, ["digits"]).by_kind == {}


def test_many_runs_of_a_kind_are_not_all_read(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("kdbench.bench.machine.speeds.speed_of", lambda place, gpu: read.append(place))
    for number in range(12):
        run(tmp_path, str(number), {})
    speeds(tmp_path)
    assert len(read) == 8


def test_this_device(monkeypatch):
    own = device_here.__wrapped__
    assert own() == "cpu"
    monkeypatch.setattr("kdbench.bench.machine.speeds.visible_gpus", lambda: ["3", "5"])
    monkeypatch.setattr("kdbench.bench.machine.speeds.query_cards", lambda gpus: [Card(f"card {gpus[0]}")])
    assert own() == "card 3"
    monkeypatch.setattr("kdbench.bench.machine.speeds.query_cards", lambda gpus: [Card()])
    assert own() == "unknown"
