"""A run that starts says in one paragraph what it is about to do."""

from __future__ import annotations

import logging

import pytest
from replicas import class_tree

import kdbench
from kdbench.data.build import build_data

FAST = {
    "SOLVER.EPOCHS": 1,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.EVAL_EVERY": 1,
    "DATASET.REPEAT": 1,
    "DATASET.NUM_WORKERS": 0,
}


@pytest.fixture
def opening(caplog):
    """The paragraph of a configuration's run."""
    caplog.set_level(logging.INFO, logger="kdbench")

    def run(folder, **extra) -> str:
        kdbench.train(kdbench.load_config("configs/digits/student.yaml", {**FAST, "LOG.PREFIX": str(folder), **extra}))
        (line,) = [r.message for r in caplog.records if "training images" in r.message]
        return line

    return run


def test_of_a_student_alone(tmp_path, opening):
    assert opening(tmp_path) == (
        "digits: 100 training images, 500 test images, 10 classes. Left out: 1,197 training images beyond 10 of each class "
        "(DATASET.PER_CLASS). Student small_cnn sees 8x8 pixels; 6,418 parameters, 102 kFLOPs an image. CPU (1 thread), float32. "
        f"Files: {next(tmp_path.iterdir())}"
    )


def test_sizes_are_those_that_the_networks_see(tmp_path, opening, digits_teacher):
    taught = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_mixer", "TEACHER.WEIGHTS": digits_teacher}
    sizes = {
        "DATASET.IMAGE_SIZE": 16,
        "STUDENT.INPUT_SIZE": 12,
        "SOLVER.PRECISION": "bf16",
        "DATASET.VAL_FRACTION": 0.1,
    }
    line = opening(tmp_path, **taught, **sizes)
    assert "100 training images, 130 for validation, 500 test images" in line
    assert "Student small_cnn sees 12x12 pixels, resized from 16x16;" in line
    assert "Teacher small_mixer sees 8x8 pixels, resized from 16x16;" in line
    assert "bfloat16 autocast" in line


def test_what_lies_there_and_is_not_used_is_said(tmp_path, opening):
    tree = class_tree(tmp_path / "set", ["cat", "dog"], {"train": 4, "val": 2, "test": 3})
    (tree / "train" / "dog" / "dog_9.bmp").write_bytes(b"BM")
    (tree / "train" / "cat" / "notes.txt").write_text("x")
    (tree / "train" / "cat" / ".DS_Store").write_text("x")
    (tree / "val" / "cat" / "broken.png").write_bytes(b"no image")
    settings = {"DATASET.TYPE": f"folder:{tree}", "DATASET.OPTIONS": {"verify": True, "max_broken": 1}}
    settings |= {
        "DATASET.PER_CLASS": 0,
        "DATASET.IMAGE_SIZE": 16,
        "SOLVER.BATCH_SIZE": 4,
        "AUGMENT.CROP": "rrc",
        "AUGMENT.PAD": -1,
    }
    line = opening(tmp_path / "runs", **settings)
    assert line.startswith("folder: 8 training images, 4 test images, 2 classes. Left out: ")
    assert "test/ beside train/ and val/" in line
    assert "2 entries of train/ without a suffix of images (.jpg, .jpeg, .png, .webp; the first: cat/notes.txt)" in line
    assert "1 of 5 images of val/ that cannot be decoded (the first: cat/broken.png)" in line


def test_a_clean_folder_leaves_nothing_out(tmp_path):
    tree = class_tree(tmp_path / "set", ["cat", "dog"], {"train": 2, "val": 1})
    assert build_data(kdbench.load_config(overrides={"DATASET.TYPE": f"folder:{tree}"})).left_out == ()
