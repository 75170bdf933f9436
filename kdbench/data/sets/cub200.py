"""Caltech-UCSD Birds-200-2011."""

from __future__ import annotations

from pathlib import Path

import torch

from kdbench.data.sets.files import FileSplit, check_count, file_source, read_lines, require_folder
from kdbench.data.source import DataSource, register_dataset
from kdbench.errors import DataError

FOLDER, CLASSES, TRAIN, TEST = "CUB_200_2011", 200, 5_994, 5_794
_REMEDY = (
    "download CUB_200_2011.tgz (https://data.caltech.edu/records/65de6-vp158) and extract it to CUB_200_2011/ under "
    "DATASET.ROOT"
)


@register_dataset("cub200")
def cub200(root: str, allow_partial: bool = False, verify: bool = False, max_broken: int = 0) -> DataSource:
    """CUB-200-2011 (Wah et al., 2011): 5,994 + 5,794 images of 200 bird species, the official split.

    Args:
        root: holds ``CUB_200_2011/`` with images.txt, train_test_split.txt, image_class_labels.txt, classes.txt,
            images/.
        allow_partial: accept other numbers of images and classes.
        verify: decode every image at the start.
        max_broken: how many broken images ``verify`` may leave out of a split.

    Raises:
        DataError: a file is missing, a line cannot be read, numbers are wrong, or too many images are broken.
    """
    top = require_folder(Path(root) / FOLDER, _REMEDY)
    classes = list(_table(top / "classes.txt").values())
    paths = _table(top / "images.txt")
    labels = _numbers(top / "image_class_labels.txt", paths, 1, len(classes))
    in_train = _numbers(top / "train_test_split.txt", paths, 0, 1)
    for key, path in paths.items():
        folder, named = path.partition("/")[0], classes[labels[key] - 1]
        if folder != named:
            raise DataError(
                f"{top / 'images.txt'}: image {key} lies in {folder!r}, but its class is {named!r}; {_REMEDY}"
            )
    splits = []
    for wanted in (1, 0):
        ids = [key for key in paths if in_train[key] == wanted]
        splits.append(
            FileSplit(top / "images", [paths[key] for key in ids], torch.tensor([labels[key] - 1 for key in ids]))
        )
    train, test = splits
    if not allow_partial:
        check_count("classes", top, len(classes), CLASSES, _REMEDY)
        check_count("training images", top, len(train), TRAIN, _REMEDY)
        check_count("test images", top, len(test), TEST, _REMEDY)
    return file_source("cub200", train, test, classes, verify=verify, max_broken=max_broken)


def _table(path: Path) -> dict[str, str]:
    """Number -> second field; a number that stands twice is an error."""
    table: dict[str, str] = {}
    for key, value in read_lines(path, 2, _REMEDY):
        if key in table:
            raise DataError(f"{path}: number {key} stands twice; {_REMEDY}")
        table[key] = value
    return table


def _numbers(path: Path, images: dict[str, str], low: int, high: int) -> dict[str, int]:
    """Image -> whole number in [low, high], for every image."""
    table = _table(path)
    for key in images:
        value = table.get(key, "")
        if not value.isdecimal() or not low <= int(value) <= high:
            raise DataError(f"{path}: image {key} has {value or 'no value'!r}, expected {low}..{high}; {_REMEDY}")
    return {key: int(value) for key, value in table.items() if key in images}
