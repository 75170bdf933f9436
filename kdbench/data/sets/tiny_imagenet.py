"""Tiny-ImageNet."""

from __future__ import annotations

from pathlib import Path

import torch

from kdbench.data.sets.files import FileSplit, check_count, class_folders, file_source, read_lines, require_folder
from kdbench.data.sets.formats.fetched_folder import fetch_folder
from kdbench.data.source import DataSource, register_dataset
from kdbench.errors import DataError, did_you_mean

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
FOLDER, CLASSES, TRAIN, VAL, SIDE = "tiny-imagenet-200", 200, 100_000, 10_000, 64
_REMEDY = f"download {URL} and extract it under DATASET.ROOT"


@register_dataset("tiny_imagenet")
def tiny_imagenet(
    root: str, download: bool = True, allow_partial: bool = False, verify: bool = False, max_broken: int = 0
) -> DataSource:
    """Tiny-ImageNet (Le and Yang, 2015): 100,000 + 10,000 images of 64x64 pixels, 200 classes of ImageNet; its val part is test.

    The labels of the official test part were never published.

    Args:
        root: holds ``tiny-imagenet-200/`` with wnids.txt, ``train/<wnid>/images/*.JPEG``, ``val/images/*.JPEG`` and
            val/val_annotations.txt, as in the official archive.
        download: get the archive (237 MB) where that folder is not there.
        allow_partial: accept other numbers of images and classes.
        verify: decode every image at the start.
        max_broken: how many broken images ``verify`` may leave out of a split.

    Raises:
        DataError: a file is missing, an annotation cannot be read, numbers are wrong, or too many images are broken.
    """
    if download and not (Path(root) / FOLDER).exists():
        fetch_folder(URL, Path(root) / FOLDER, "237 MB", _REMEDY, MD5)
    top = require_folder(Path(root) / FOLDER, _REMEDY)
    names = [line[0] for line in read_lines(top / "wnids.txt", 1, _REMEDY)]
    order = sorted(names)
    if len(set(order)) != len(order):
        raise DataError(f"{top / 'wnids.txt'}: a class stands twice; {_REMEDY}")
    train, test = _train(top, order), _val(top, order)
    if not allow_partial:
        check_count("classes", top, len(order), CLASSES, _REMEDY)
        check_count("training images", top, len(train), TRAIN, _REMEDY)
        check_count("validation images", top, len(test), VAL, _REMEDY)
    return file_source("tiny_imagenet", train, test, order, verify=verify, max_broken=max_broken)


def _train(top: Path, order: list[str]) -> FileSplit:
    files: list[str] = []
    labels = []
    require_folder(top / "train", _REMEDY)
    for label, name in enumerate(order):
        found, _, _ = class_folders(top / "train" / name, _REMEDY, ["images"])
        files += [f"{name}/{file}" for file in found]
        labels += [label] * len(found)
    return FileSplit(top / "train", files, torch.tensor(labels), SIDE)


def _val(top: Path, order: list[str]) -> FileSplit:
    """The validation images, whose classes are in a file: name, class and a box a line."""
    path, numbers = top / "val" / "val_annotations.txt", {name: number for number, name in enumerate(order)}
    files, labels = [], []
    for image, name, _ in read_lines(path, 3, _REMEDY):
        if name not in numbers:
            raise DataError(f"{path}: image {image} has unknown class {name!r}{did_you_mean(name, order)}; {_REMEDY}")
        if Path(image).name != image:
            raise DataError(f"{path}: {image!r} is no name of a file; {_REMEDY}")
        files.append(f"images/{image}")
        labels.append(numbers[name])
    ranked = sorted(range(len(files)), key=files.__getitem__)
    return FileSplit(top / "val", [files[n] for n in ranked], torch.tensor([labels[n] for n in ranked]), SIDE)
