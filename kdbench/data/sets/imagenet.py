"""ImageNet-1K."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdbench.data.sets.files import FileSplit, check_count, class_folders, file_source, require_folder
from kdbench.data.source import DataSource, register_dataset
from kdbench.errors import DataError, did_you_mean

CLASSES, TRAIN, VAL = 1000, 1_281_167, 50_000
_VAL_PER_CLASS = 50
_REMEDY = (
    "extract ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar (https://image-net.org) to train/<wnid>/*.JPEG and "
    "val/<wnid>/*.JPEG under DATASET.ROOT"
)


@register_dataset("imagenet")
def imagenet(
    root: str,
    classes: int | Sequence[str] = 0,
    allow_partial: bool = False,
    verify: bool = False,
    max_broken: int = 0,
) -> DataSource:
    """ILSVRC 2012 (Russakovsky et al., IJCV 2015): 1,281,167 + 50,000 images, 1000 classes; the official val part is
    test.

    Args:
        root: holds ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``.
        classes: 0 = all; a number = that many first WordNet ids; or a list of ids.
        allow_partial: accept other numbers of images and classes, and other class names.
        verify: decode every image at the start.
        max_broken: how many broken images ``verify`` may leave out of a split.

    Raises:
        DataError: a folder is missing, numbers are wrong, or too many images are broken.
    """
    top = require_folder(Path(root), _REMEDY)
    chosen = _choose(top / "train", classes)
    left_out: list[str] = []
    files, labels, names = class_folders(top / "train", _REMEDY, chosen, left_out)
    val_files, val_labels, _ = class_folders(top / "val", _REMEDY, names, left_out)
    if not allow_partial:
        if chosen is None:
            check_count("classes", top / "train", len(names), CLASSES, _REMEDY)
            check_count("training images", top / "train", len(files), TRAIN, _REMEDY)
        expected = VAL if chosen is None else _VAL_PER_CLASS * len(names)
        check_count("validation images", top / "val", len(val_files), expected, _REMEDY)
        _check_names(top / "train", names)
    return file_source(
        "imagenet",
        FileSplit(top / "train", files, labels),
        FileSplit(top / "val", val_files, val_labels),
        names,
        verify=verify,
        max_broken=max_broken,
        remarks=left_out,
    )


def _check_names(where: Path, names: Sequence[str]) -> None:
    from timm.data import ImageNetInfo

    official = ImageNetInfo("imagenet-1k").label_names()
    strange = sorted(set(names) - set(official))
    if strange:
        raise DataError(
            f"{where}: class folder {strange[0]!r} is no WordNet id of ILSVRC 2012{did_you_mean(strange[0], official)}, "
            f"and {len(strange) - 1} more; {_REMEDY} (DATASET.OPTIONS.allow_partial accepts other names)"
        )


def _choose(train: Path, classes: int | Sequence[str]) -> list[str] | None:
    if isinstance(classes, bool) or not isinstance(classes, (int, list, tuple)):
        raise DataError(f"DATASET.OPTIONS.classes expects a number or a list of WordNet ids, got {classes!r}")
    if not isinstance(classes, int):
        if not classes or len(set(classes)) < len(classes):
            raise DataError("DATASET.OPTIONS.classes: the list is empty or names a WordNet id twice")
        return [str(name) for name in classes]
    if classes == 0:
        return None
    found = sorted(p.name for p in require_folder(train, _REMEDY).iterdir() if p.is_dir() and p.name[0] != ".")
    if not 0 < classes <= len(found):
        raise DataError(f"DATASET.OPTIONS.classes is {classes}, but {train} holds {len(found)} class folders")
    return found[:classes]
