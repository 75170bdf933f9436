"""FGVC-Aircraft."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.datasets import FGVCAircraft

from kdbench.data.sets.files import FileSplit, check_count, file_source, read_lines, require_folder
from kdbench.data.sets.formats.fetched_folder import fetch_folder
from kdbench.data.source import DataSource, register_dataset
from kdbench.errors import DataError, did_you_mean

FOLDER, CLASSES, TRAIN, TEST = "fgvc-aircraft-2013b", 100, 6_667, 3_333
_REMEDY = (
    "download fgvc-aircraft-2013b.tar.gz (https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/) and extract it under "
    "DATASET.ROOT"
)


@register_dataset("aircraft")
def aircraft(
    root: str, download: bool = True, allow_partial: bool = False, verify: bool = False, max_broken: int = 0
) -> DataSource:
    """FGVC-Aircraft 2013b (Maji et al., 2013) at the level of variants: 6,667 (trainval) + 3,333 images, 100 classes.

    Images are used whole, the line with the copyright at their foot included, as torchvision does.

    Args:
        root: holds ``fgvc-aircraft-2013b/data/`` with variants.txt, images_variant_trainval.txt,
            images_variant_test.txt, images/.
        download: get the archive (2.7 GB) where that folder is not there.
        allow_partial: accept other numbers of images and classes.
        verify: decode every image at the start.
        max_broken: how many broken images ``verify`` may leave out of a split.

    Raises:
        DataError: a file is missing, a line cannot be read, numbers are wrong, or too many images are broken.
    """
    if download and not (Path(root) / FOLDER).exists():
        fetch_folder(FGVCAircraft._URL, Path(root) / FOLDER, "2.7 GB", _REMEDY)
    top = require_folder(Path(root) / FOLDER / "data", _REMEDY)
    classes = [line[0] for line in read_lines(top / "variants.txt", 1, _REMEDY)]
    train = _split(top, "trainval", classes)
    test = _split(top, "test", classes)
    if not allow_partial:
        check_count("classes", top, len(classes), CLASSES, _REMEDY)
        check_count("training images", top, len(train), TRAIN, _REMEDY)
        check_count("test images", top, len(test), TEST, _REMEDY)
    return file_source("aircraft", train, test, classes, verify=verify, max_broken=max_broken)


def _split(top: Path, part: str, classes: list[str]) -> FileSplit:
    path = top / f"images_variant_{part}.txt"
    numbers = {name: number for number, name in enumerate(classes)}
    files, labels = [], []
    for image, variant in read_lines(path, 2, _REMEDY):
        if variant not in numbers:
            raise DataError(
                f"{path}: image {image} has unknown variant {variant!r}{did_you_mean(variant, classes)}; {_REMEDY}"
            )
        files.append(f"{image}.jpg")
        labels.append(numbers[variant])
    return FileSplit(top / "images", files, torch.tensor(labels))
