"""Arrays, from Python and from an .npz file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kdbench
from kdbench.data.build import build_data
from kdbench.data.sets.brought.pixels import statistics_of
from kdbench.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(30) % 3


def build(kind: str, **options):
    return build_data(kdbench.load_config(overrides={"DATASET.TYPE": kind, "DATASET.OPTIONS": options}))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR[..., 0], COLOUR[:, None, :, :, 0].repeat(3, 1)),
        (COLOUR[..., :1], COLOUR[:, None, :, :, 0].repeat(3, 1)),
        (COLOUR[:, None, ..., 0], COLOUR[:, None, :, :, 0].repeat(3, 1)),
        (COLOUR / 255.0, COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR.astype(">i4"), COLOUR.transpose(0, 3, 1, 2)),
        (torch.from_numpy(COLOUR), COLOUR.transpose(0, 3, 1, 2)),
    ],
    ids=["last", "first", "grey", "grey last", "grey first", "unit", "big endian", "tensor"],
)
def test_layouts_and_numbers(images, expected):
    data = kdbench.data_from_arrays(images, LABELS[:, None], images, LABELS)
    assert np.array_equal(data.train.images.numpy(), expected)
    assert data.train.labels.tolist() == LABELS.tolist()
    assert data.classes == ["0", "1", "2"]


def test_statistics_are_those_of_the_training_images():
    data = kdbench.data_from_arrays(COLOUR, LABELS, COLOUR, LABELS)
    expected = COLOUR.reshape(-1, 3) / 255.0
    np.testing.assert_allclose(data.statistics, (expected.mean(0), expected.std(0)), atol=6e-5)
    assert statistics_of(torch.zeros(2, 3, 4, 4, dtype=torch.uint8)) == ((0.0,) * 3, (1.0,) * 3)


def test_without_a_test_part_a_share_of_each_class_is_held_out():
    one, two = (kdbench.data_from_arrays(COLOUR, LABELS, test_fraction=0.2) for _ in range(2))
    assert torch.bincount(one.test.labels).tolist() == [2, 2, 2]
    assert len(one.train) == 24
    assert one.fingerprint() == two.fingerprint()
    changed = COLOUR.copy()
    changed[0, 0, 0, 0] ^= 1
    assert kdbench.data_from_arrays(changed, LABELS).fingerprint() != one.fingerprint()


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (COLOUR / 128.0, LABELS, "values from 0 to .*leave out the normalisation"),
        (COLOUR.astype(np.int32) + 1, LABELS, "values from 1 to 256"),
        (COLOUR[:, :4], LABELS, "images must be square"),
        (COLOUR[:, :, :, :2], LABELS, "1 or 3 channels"),
        (COLOUR.astype(object), LABELS, "got object"),
        (COLOUR, LABELS[:5], "30 images but 5 labels"),
        (COLOUR, LABELS / 2, "labels are .* whole numbers"),
        (COLOUR, LABELS - 1, "label -1 is negative"),
        (COLOUR, LABELS + 10**9, "too large"),
        (COLOUR[:0], LABELS[:0], "got torch.uint8|has no images"),
        (np.full((4, 8, 8), np.nan), LABELS[:4], "values from nan"),
    ],
)
def test_what_is_refused(images, labels, told):
    with pytest.raises(DataError, match=told) as error:
        kdbench.data_from_arrays(images, labels)
    assert "\n" not in str(error.value)


def test_a_part_has_both_images_and_labels():
    with pytest.raises(DataError, match="test: images and labels go together"):
        kdbench.data_from_arrays(COLOUR, LABELS, COLOUR)


@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels")])
def test_a_file_by_the_names_of_others(tmp_path, names):
    values = (COLOUR, LABELS, COLOUR[:6], LABELS[:6])
    np.savez(tmp_path / "own.npz", classes=np.array(["a", "b", "c"]), **dict(zip(names, values)))
    data = build(f"npz:{tmp_path / 'own.npz'}")
    assert data.classes == ["a", "b", "c"]
    assert len(data.test) == 6
    assert data.standard.pad == 1


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"pictures": COLOUR}, "holds pictures; expects x_train, y_train"),
        ({"x_train": COLOUR}, "holds x_train but no y_train"),
        ({"x_train": COLOUR, "y_train": np.array([{}, []] * 15, dtype=object)}, "cannot be read as arrays"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, arrays, told):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match=told):
        build(f"npz:{tmp_path / 'own.npz'}")


def test_no_file_or_another_one(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        build(f"npz:{tmp_path / 'none.npz'}")
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(DataError, match="cannot be read as arrays"):
        build(f"npz:{tmp_path / 'text.npz'}")
    np.save(tmp_path / "one.npy", COLOUR)
    with pytest.raises(DataError, match="one array"):
        build(f"npz:{tmp_path / 'one.npy'}")
    with pytest.raises(ConfigError, match="names no file; write npz:<path>"):
        build("npz:")
