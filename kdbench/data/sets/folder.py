"""Any folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdbench.data.sets.files import FileSplit, class_folders, file_source, require_folder
from kdbench.data.sets.formats.class_order import order_classes
from kdbench.data.source import DataSource, register_dataset
from kdbench.errors import DataError


@register_dataset("folder")
def folder(root: str, verify: bool = False, max_broken: int = 0, class_order: str | Sequence[str] = "") -> DataSource:
    """A tree ``train/<class>/<image>`` and ``val/<class>/<image>`` (or ``test/``): ``DATASET.TYPE: folder:<path>``.

    Args:
        root: the folder.
        verify: decode every image at the start.
        max_broken: how many broken images ``verify`` may leave out of a split.
        class_order: ``code_point`` (the default), ``natural`` (timm's), the class names in order, or a file with one a line.

    Raises:
        DataError: a folder is missing or empty, the parts differ in their classes, too many images are broken, or the order names
            other classes.
    """
    top = require_folder(Path(root), "DATASET.TYPE 'folder:<path>' names a folder with train/ and val/ (or test/)")
    remedy = "expected are train/<class>/<image> and val/<class>/<image> (or test/)"
    held_out = "val" if (top / "val").is_dir() or not (top / "test").is_dir() else "test"
    unused = [p.name for p in top.iterdir() if p.is_dir() and p.name not in ("train", held_out) and p.name[0] != "."]
    left_out = [f"{name}/ beside train/ and {held_out}/" for name in sorted(unused)]
    files, labels, classes = class_folders(top / "train", remedy, remarks=left_out)
    test_files, test_labels, test_classes = class_folders(top / held_out, remedy, remarks=left_out)
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))
        raise DataError(f"{top}: train and {held_out} differ in their classes, {odd[0]!r} is in one of them only")
    ordered = order_classes(classes, class_order, f"folder {top}")
    if ordered != classes:
        classes = ordered
        files, labels, _ = class_folders(top / "train", remedy, classes)
        test_files, test_labels, _ = class_folders(top / held_out, remedy, classes)
    return file_source(
        "folder",
        FileSplit(top / "train", files, labels),
        FileSplit(top / held_out, test_files, test_labels),
        classes,
        verify=verify,
        max_broken=max_broken,
        remarks=left_out,
    )
