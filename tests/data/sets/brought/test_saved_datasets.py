"""A folder of Hugging Face's datasets, where that package is installed; and the line where it is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import kdbench
from kdbench.data.build import build_data
from kdbench.errors import DataError

SHADES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)


def build(folder, **options):
    return build_data(kdbench.load_config(overrides={"DATASET.TYPE": f"hf:{folder}", "DATASET.OPTIONS": options}))


def rows(count, grey=False, **more):
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    images = [Image.fromarray(shade[..., 0] if grey else shade) for shade in SHADES[:count]]
    columns = {"img": images, "fine": [n % 2 for n in range(count)], **more}
    features = datasets.Features(
        {"img": datasets.Image(), "fine": datasets.ClassLabel(names=["no", "yes"])}
        | {name: datasets.ClassLabel(names=["a"]) for name in more}
    )
    return datasets.Dataset.from_dict(columns, features=features)


def test_a_folder_with_splits(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({"train": rows(20), "test": rows(6), "validation": rows(4)}).save_to_disk(tmp_path / "own")
    data = build(tmp_path / "own")
    assert data.classes == ["no", "yes"]
    assert (len(data.train), len(data.test), len(data.val)) == (20, 6, 4)
    assert np.array_equal(data.train.images.numpy(), SHADES.transpose(0, 3, 1, 2))
    assert build(tmp_path / "own").fingerprint() == data.fingerprint()


def test_one_data_set_of_grey_images(tmp_path):
    rows(20, grey=True).save_to_disk(tmp_path / "own")
    data = build(tmp_path / "own", test_fraction=0.3)
    assert (len(data.train), len(data.test)) == (14, 6)
    assert data.train.images.shape[1:] == (3, 8, 8)


def test_columns_are_named_where_there_are_several(tmp_path):
    rows(20, coarse=[0] * 20).save_to_disk(tmp_path / "own")
    with pytest.raises(DataError, match=r"OPTIONS\.label names the column.*fine \(ClassLabel\)"):
        build(tmp_path / "own")
    assert len(build(tmp_path / "own", label="fine").classes) == 2
    with pytest.raises(DataError, match=r"did you mean 'fine'"):
        build(tmp_path / "own", label="fina")


def test_no_folder_of_its_own(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match="no such folder"):
        build(tmp_path / "none")
    with pytest.raises(DataError, match="cannot load it from disk"):
        build(tmp_path)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the package datasets: pip install datasets"):
        build(tmp_path)
