"""NumPy arrays, from Python or from an .npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdbench.data.sets.brought.pixels import as_bytes, colour, labels_of, memory_source
from kdbench.data.source import DataSource, MemorySplit, Statistics, register_dataset
from kdbench.errors import DataError, did_you_mean

#: names of (images, labels) of each part: Keras's, MedMNIST's, and plain ones
_NAMES = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
    "val": (("x_val", "y_val"), ("val_images", "val_labels")),
}


def data_from_arrays(
    images: Any,
    labels: Any,
    test_images: Any = None,
    test_labels: Any = None,
    *,
    val_images: Any = None,
    val_labels: Any = None,
    classes: Sequence[str] | None = None,
    statistics: Statistics | None = None,
    test_fraction: float = 0.2,
    name: str = "arrays",
) -> DataSource:
    """A data set from arrays or tensors.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1 or 3 and H = W; uint8, or floating-point in [0, 1].
        labels: (N,) or (N, 1) whole numbers from 0.
        test_images: the test part; without one, ``test_fraction`` of each class is held out, the same for every seed.
        test_labels: of these.
        val_images: a part for the selection of models.
        val_labels: of these.
        classes: names; the labels' numbers by default.
        statistics: ``(mean, std)`` of the training images; measured by default.
        test_fraction: see above.
        name: of the data set; a part of its fingerprint.

    Raises:
        DataError: arrays of another shape, kind or range.
    """
    train = _split(images, labels, f"{name}, train")
    pairs = {"test": (test_images, test_labels), "val": (val_images, val_labels)}
    parts = {}
    for part, (some, named) in pairs.items():
        if (some is None) != (named is None):
            raise DataError(f"{name}, {part}: images and labels go together, and one of them is missing")
        parts[part] = None if some is None else _split(some, named, f"{name}, {part}")
    return memory_source(
        name,
        train,
        parts["test"],
        classes=classes,
        val=parts["val"],
        statistics=statistics,
        test_fraction=test_fraction,
    )


@register_dataset("npz")
def npz(root: str, test_fraction: float = 0.2) -> DataSource:
    """Arrays in a file of ``numpy.savez``: ``DATASET.TYPE: npz:<file>``.

    Its arrays are ``x_train, y_train[, x_test, y_test][, x_val, y_val]``, or ``train_images, train_labels`` and so on, or ``images,
    labels``; ``classes`` may hold names. Nothing in the file is executed: arrays of objects are refused.

    Args:
        root: the file.
        test_fraction: of each class, held out where the file has no test part.

    Raises:
        DataError: it cannot be read, or has no such arrays.
    """
    arrays = _read(Path(root))
    found: dict[str, Any] = {}
    for part, choices in _NAMES.items():
        pair = next((names for names in choices if names[0] in arrays), None)
        if pair is None and part == "train":
            near = next((hint for key in arrays if (hint := did_you_mean(key, [n for n, _ in choices]))), "")
            raise DataError(
                f"{root}: holds {', '.join(sorted(arrays)) or 'no arrays'}{near}; expects x_train, y_train (train_images, "
                "train_labels; images, labels)"
            )
        if pair is not None and pair[1] not in arrays:
            raise DataError(f"{root}: holds {pair[0]} but no {pair[1]}")
        found[part] = (None, None) if pair is None else (arrays[pair[0]], arrays[pair[1]])
    return data_from_arrays(
        *found["train"],
        *found["test"],
        val_images=found["val"][0],
        val_labels=found["val"][1],
        classes=None if "classes" not in arrays else [str(one) for one in arrays["classes"].tolist()],
        test_fraction=test_fraction,
        name="npz",
    )


def _read(path: Path) -> Mapping[str, np.ndarray]:
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise DataError(f"{path}: one array; expects several with names, as numpy.savez writes them")
        with stored:
            return {key: stored[key] for key in stored.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; DATASET.TYPE: npz:<file> names one") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: cannot be read as arrays of numpy.savez ({reason})") from None


def _split(images: Any, labels: Any, where: str) -> MemorySplit:
    array = images if isinstance(images, torch.Tensor) else np.asarray(images)
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "uif":
            raise DataError(f"{where}: images are uint8, or floating-point in [0, 1], got {array.dtype}")
        array = torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)))
    return MemorySplit(colour(as_bytes(array.detach().cpu(), where), where), labels_of(labels, where))
