"""A list of image files and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import kdbench
from kdbench.data.build import build_data
from kdbench.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(12):
        mode, size = ("L", (20, 16)) if number % 2 else ("RGB", (16, 20))
        shade = np.full((size[1], size[0]) if mode == "L" else (size[1], size[0], 3), 20 * number, dtype=np.uint8)
        Image.fromarray(shade).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


def write(folder, rows, head="path,label,split"):
    (folder / "list.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return f"csv:{folder / 'list.csv'}"


def build(kind, **options):
    return build_data(kdbench.load_config(overrides={"DATASET.TYPE": kind, "DATASET.OPTIONS": options}))


ROWS = [f"images/{n}.png,{'cat' if n % 3 else 'dog'},{'test' if n > 8 else 'train'}" for n in range(12)]


def test_a_list_with_splits(folder):
    data = build(write(folder, ROWS))
    assert data.classes == ["cat", "dog"]
    assert (len(data.train), len(data.test), data.val) == (9, 3, None)
    assert data.test.labels.tolist() == [1, 0, 0]
    assert data.train.files[1] == "images/1.png"
    pixels = data.train.fetch(torch.tensor([1]))
    assert pixels.shape == (1, 3, 224, 224)
    assert pixels.unique().tolist() == [20]


def test_val_beside_test_selects_and_alone_is_the_test_part(folder):
    rows = [row.replace(",train", ",validation") if number in (1, 3) else row for number, row in enumerate(ROWS)]
    data = build(write(folder, rows))
    assert (len(data.train), len(data.val), len(data.test)) == (7, 2, 3)
    alone = build(write(folder, [row.replace(",test", ",val") for row in ROWS]))
    assert (len(alone.test), alone.val) == (3, None)


def test_without_splits_a_share_is_held_out(folder):
    kind = write(folder, [row.rpartition(",")[0] for row in ROWS], "path,label")
    one, two = build(kind, test_fraction=0.25), build(kind, test_fraction=0.25)
    assert torch.bincount(one.test.labels).tolist() == [2, 1]
    assert one.fingerprint() == two.fingerprint()
    assert set(one.train.files).isdisjoint(one.test.files)


def test_other_marks_absolute_paths_and_order(folder):
    rows = [f"{folder}/images/{n}.png;{n % 3}0;{'test' if n > 8 else 'train'}" for n in range(12)]
    data = build(write(folder, rows, "﻿Path;Label;Split"), class_order=["20", "00", "10"])
    assert data.classes == ["20", "00", "10"]
    assert data.train.labels[:3].tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("head", "rows", "told"),
    [
        ("file,label", ["a,b"], "no column 'path'; expects path,label or"),
        ("path,lable", ["a,b"], "no column 'label' .did you mean 'lable'"),
        ("path,label", [], "names no images"),
        ("path,label", ["images/1.png"], "line 2: 1 fields, its first line has 2"),
        ("path,label", ["images/1.png,"], "line 2: label is empty"),
        (
            "path,label,split",
            ["images/1.png,a,trian"],
            "split 'trian' is none of train, test, val .did you mean 'train'",
        ),
        ("path,label,split", ["images/1.png,a,train"], "no row has the split test"),
        ("path,label,split", ["images/1.png,a,train", "images/2.png,a,"], "has no split, and others have"),
        ("path,label", ["images/1.png,a"], "leaves no images"),
    ],
)
def test_what_is_refused(folder, head, rows, told):
    with pytest.raises(DataError, match=told) as error:
        build(write(folder, rows, head))
    assert "\n" not in str(error.value)


def test_files_that_are_missing_or_no_text(folder):
    with pytest.raises(DataError, match="No such file"):
        build(f"csv:{folder / 'none.csv'}")
    (folder / "list.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(DataError, match="no text in UTF-8"):
        build(f"csv:{folder / 'list.csv'}")
    with pytest.raises(DataError, match=r"images/77\.png"):
        build(write(folder, [*ROWS, "images/77.png,cat,train"])).fingerprint()
