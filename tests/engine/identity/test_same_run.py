"""What is one run and what is not: values written out or by default, processes, and data that were replaced."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from replicas import class_tree, write_jpeg

import kdbench
from kdbench.data.build import build_data
from kdbench.engine.identity.code import Code
from kdbench.engine.identity.images import contents, touched
from kdbench.engine.identity.inputs import read_inputs
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.runtime import start_runtime
from kdbench.engine.session import locate as locate_module
from kdbench.engine.session.locate import locate
from kdbench.errors import DataError
from kdbench.seal import sealed

FAST = {
    "SOLVER.EPOCHS": 1,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.EVAL_EVERY": 1,
    "DATASET.REPEAT": 1,
    "DATASET.NUM_WORKERS": 0,
    "DATASET.PER_CLASS": 5,
}
#: a value that means what the default stands for, on the digits with seed 1
WRITTEN_OUT = {
    "SUBSET_SEED": {"DATASET.SUBSET_SEED": 1},
    "AUG_SEED": {"DATASET.AUG_SEED": 1},
    "IMAGE_SIZE": {"DATASET.IMAGE_SIZE": 8},
    "CROP": {"AUGMENT.CROP": "pad", "AUGMENT.PAD": 1},
    "FLIP": {"AUGMENT.FLIP": 0.0},
    "CROP_PCT": {"AUGMENT.CROP_PCT": 1.0},
    "INPUT_SIZE": {"STUDENT.INPUT_SIZE": 8},
    "NORM": {"STUDENT.NORM": "dataset"},
    "statistics": {"STUDENT.NORM": [[0.3058] * 3, [0.376] * 3]},
    "VIEWS": {"CACHE.VIEWS": 1},
    "OPTIONS": {"STUDENT.OPTIONS.widths": (8, 16, 32)},
}
OTHERS = {
    "SUBSET_SEED": {"DATASET.SUBSET_SEED": 2},
    "AUG_SEED": {"DATASET.AUG_SEED": 2},
    "IMAGE_SIZE": {"DATASET.IMAGE_SIZE": 16},
    "PAD": {"AUGMENT.PAD": 2},
    "FLIP": {"AUGMENT.FLIP": 0.5},
    "INPUT_SIZE": {"STUDENT.INPUT_SIZE": 16},
    "NORM": {"STUDENT.NORM": "none"},
    "OPTIONS": {"STUDENT.OPTIONS.widths": (8, 16, 24)},
}


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level(logging.INFO, logger="kdbench")


def digits(folder, **extra):
    return kdbench.load_config("configs/digits/student.yaml", {**FAST, "LOG.PREFIX": str(folder), **extra})


def name_of(cfg, processes: int = 1) -> str:
    return locate(cfg, build_data(cfg), processes=processes)[0].path.name


@pytest.mark.parametrize("key", WRITTEN_OUT)
def test_a_value_and_the_default_that_stands_for_it_are_one_run(tmp_path, key):
    both = [digits(tmp_path / str(n), **extra) for n, extra in enumerate(({}, WRITTEN_OUT[key]))]
    results = [kdbench.train(cfg) for cfg in both]
    assert results[0].run_id == results[1].run_id
    files = [(Path(result.folder) / "student.safetensors").read_bytes() for result in results]
    assert files[0] == files[1]


@pytest.mark.parametrize("key", OTHERS)
def test_another_value_is_another_run(tmp_path, key):
    assert name_of(digits(tmp_path)) != name_of(digits(tmp_path, **OTHERS[key]))


def test_a_presets_name_is_no_part_of_a_run(tmp_path):
    named = {"DISTILLER.TYPE": "DKD", "DISTILLER.TEACHER": "small_mixer"}
    by_name = digits(tmp_path, **named, **{"DISTILLER.PRESET": "cifar_beta6"})
    values = {f"DKD.{key}": value for key, value in by_name.DKD.items()}
    assert values["DKD.BETA"] == 6
    assert name_of(by_name) == name_of(digits(tmp_path, **named, **values))
    assert name_of(by_name) != name_of(digits(tmp_path, **named, **{"DISTILLER.PRESET": "cifar_beta2"}))


def test_a_part_weight_of_one_is_no_weight(tmp_path):
    named = {"DISTILLER.TYPE": "KD+RSD", "DISTILLER.TEACHER": "small_mixer"}
    plain = name_of(digits(tmp_path, **named))
    assert name_of(digits(tmp_path, **named, **{"DISTILLER.PART_WEIGHTS": [1, 1]})) == plain
    assert name_of(digits(tmp_path, **named, **{"DISTILLER.PART_WEIGHTS": [1, 2]})) != plain


def test_the_floor_of_the_gate_by_default_is_its_value(tmp_path):
    named = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_mixer"}
    plain = name_of(digits(tmp_path, **named))
    assert name_of(digits(tmp_path, **named, **{"TEACHER.FLOOR": 0.1 + 0.25 * 0.9})) == plain
    assert name_of(digits(tmp_path, **named, **{"TEACHER.FLOOR": 0.5})) != plain


def test_the_number_of_processes_is_part_of_a_run(tmp_path):
    cfg = digits(tmp_path)
    assert len({name_of(cfg, n) for n in (1, 2, 3)}) == 3


def on_files(tmp_path, **extra):
    settings = {"DATASET.TYPE": f"folder:{tmp_path / 'set'}", "DATASET.PER_CLASS": 0, "DATASET.IMAGE_SIZE": 16}
    settings |= {"STUDENT.INPUT_SIZE": 16, "SOLVER.BATCH_SIZE": 4, "AUGMENT.CROP": "rrc", "AUGMENT.PAD": -1}
    return digits(tmp_path / "runs", **{**settings, **extra})


def replace_image(file: Path, keep_times: bool) -> None:
    """Another picture in a file of the same size."""
    before = file.stat()
    write_jpeg(file, 991, width=8, height=8)
    file.write_bytes(file.read_bytes() + bytes(before.st_size - file.stat().st_size))
    assert file.stat().st_size == before.st_size
    if keep_times:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("keep_times", [True, False])
@pytest.mark.parametrize("finished", [True, False])
def test_images_replaced_by_others_of_their_size_are_refused(tmp_path, finished, keep_times):
    class_tree(tmp_path / "set", ["cat", "dog"], {"train": 4, "val": 2})
    first = kdbench.train(on_files(tmp_path))
    if not finished:
        (Path(first.folder) / "result.json").unlink()
    replace_image(tmp_path / "set" / "train" / "dog" / "dog_2.jpg", keep_times)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in Path(first.folder).iterdir())
    with pytest.raises(DataError, match=r"train/dog/dog_2\.jpg is another one than when .* was made"):
        kdbench.train(on_files(tmp_path))
    assert sorted((p.name, p.stat().st_mtime_ns) for p in Path(first.folder).iterdir()) == before
    other = kdbench.train(on_files(tmp_path, **{"EXPERIMENT.NAME": "new"}))
    assert other.run_id == first.run_id
    assert other.folder != first.folder


def test_every_file_is_compared_where_only_some_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("kdbench.engine.identity.images._SHOWN", 2)
    class_tree(tmp_path / "set", ["cat", "dog"], {"train": 4, "val": 2})
    kdbench.train(on_files(tmp_path))
    replace_image(tmp_path / "set" / "train" / "dog" / "dog_3.jpg", True)
    with pytest.raises(DataError, match="an image is another one than when"):
        kdbench.train(on_files(tmp_path))


def test_a_copy_of_a_data_set_is_the_same_run(tmp_path, caplog):
    class_tree(tmp_path / "set", ["cat", "dog"], {"train": 4, "val": 2})
    first = kdbench.train(on_files(tmp_path))
    shutil.copytree(tmp_path / "set", tmp_path / "copy", copy_function=shutil.copy)
    again = kdbench.train(on_files(tmp_path, **{"DATASET.TYPE": f"folder:{tmp_path / 'copy'}"}))
    assert again.folder == first.folder
    assert "their content is the same" in caplog.text


def test_images_are_read_once_for_their_digests(tmp_path, monkeypatch):
    class_tree(tmp_path / "set", ["cat", "dog"], {"train": 4, "val": 2})
    data = build_data(on_files(tmp_path))
    read = []
    monkeypatch.setattr("kdbench.engine.identity.images._digest", lambda path: read.append(path.name) or "0" * 64)
    stamp = touched(data)
    assert contents(data, stamp, tmp_path) == contents(data, stamp, tmp_path)
    assert len(read) == 12


def test_another_environment_is_said_and_both_are_recorded(tmp_path, monkeypatch, caplog):
    cfg = digits(tmp_path, **{"SOLVER.EPOCHS": 2})
    real = locate_module.environment

    def elsewhere(runtime):
        return {**real(runtime), "torch": "2.4.0"}

    def stop(epoch: int, step: int, steps: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(locate_module, "environment", elsewhere)
        with pytest.raises(KeyboardInterrupt):
            kdbench.train(cfg, progress=stop)
    result = kdbench.train(cfg)
    here = real(start_runtime(cfg))["torch"]
    assert f"was made with torch 2.4.0 (now {here})" in caplog.text
    assert result.environment["torch"] == f"2.4.0 then {here}"
    assert result.environment["timm"] == real(start_runtime(cfg))["timm"]
    frame = kdbench.load_results(tmp_path, detail=True)
    assert frame.env_torch.tolist() == [f"2.4.0 then {here}"]


def test_a_run_without_a_record_of_its_inputs_is_taken_as_it_is(tmp_path):
    first = kdbench.train(digits(tmp_path))
    (Path(first.folder) / "inputs.json").write_text("{")
    assert read_inputs(RunFolder(first.folder)) is None
    assert kdbench.train(digits(tmp_path)).run_id == first.run_id


def test_inputs_hold_what_the_run_was_made_from(tmp_path):
    result = kdbench.train(digits(tmp_path))
    values = json.loads((Path(result.folder) / "inputs.json").read_text())
    assert result.run_id.endswith(values["plain"])
    assert values["brought"] == {}
    assert set(values["own"]) == set(locate_module.code_of(digits(tmp_path)).own)
    assert [env["device"] for env in values["environments"]] == ["cpu"]
    assert values["environments"][0]["compile"] is False
    assert Code().digest == ""


def test_a_field_of_a_newer_version_is_kept(tmp_path, caplog):
    first = kdbench.train(digits(tmp_path))
    file = Path(first.folder) / "result.json"
    newer = sealed({**json.loads(file.read_text()), "calibration": 0.03})
    file.write_text(json.dumps(newer))
    again = kdbench.train(digits(tmp_path))
    assert "is done already" in caplog.text
    assert again.more == {"calibration": 0.03}
    assert json.loads(file.read_text()) == newer
    assert not list(tmp_path.rglob("*.damaged"))
    again.write(tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text()) == newer
