"""A list of image files and labels, as CSV."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from kdbench.data.sets.brought.pixels import held_out
from kdbench.data.sets.files import FileSplit, file_source
from kdbench.data.sets.formats.class_order import order_classes
from kdbench.data.source import DataSource, register_dataset
from kdbench.errors import DataError, did_you_mean

log = logging.getLogger(__name__)
_COLUMNS = ("path", "label")
_SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
_Row = tuple[str, str, str]


@register_dataset("csv")
def csv_list(
    root: str,
    test_fraction: float = 0.2,
    verify: bool = False,
    max_broken: int = 0,
    class_order: str | Sequence[str] = "",
) -> DataSource:
    """A list with the header ``path,label[,split]``: ``DATASET.TYPE: csv:<file>``.

    Paths are relative to the folder of the list. Labels are the names of the classes. ``split`` is train, test or val; of test and
    val alone either is the test part, of both val is for the selection of models.

    Args:
        root: the list.
        test_fraction: of each class, held out where no split is named.
        verify: decode every image at the start.
        max_broken: how many broken images ``verify`` may leave out of a split.
        class_order: ``code_point`` (the default), ``natural``, the class names in order, or a file with one a line.

    Raises:
        DataError: the list cannot be read, a row of it is wrong, or a class has no training images.
    """
    path = Path(root)
    rows = _rows(path)
    classes = order_classes(sorted({label for _, label, _ in rows}), class_order, path)
    number = {label: position for position, label in enumerate(classes)}
    parts = {part: [row for row in rows if row[2] == part] for part in ("train", "test", "val", "")}
    if parts[""] and len(parts[""]) < len(rows):
        raise DataError(f"{path}: {parts[''][0][0]} has no split, and others have; name it for all rows or for none")

    def split(part: Sequence[_Row]) -> FileSplit:
        return FileSplit(path.parent, [row[0] for row in part], torch.tensor([number[row[1]] for row in part]))

    if parts[""]:
        whole = split(rows)
        keep, held = held_out(whole.labels, test_fraction, str(path))
        train, test, val = whole.subset(keep), whole.subset(held), None
        log.info("%s names no split: %d of its %d images are the test part", path, len(test), len(whole))
    else:
        for part in ("train",) if parts["test"] or parts["val"] else ("train", "test"):
            if not parts[part]:
                raise DataError(f"{path}: no row has the split {part}")
        train, test = split(parts["train"]), split(parts["test"] or parts["val"])
        val = split(parts["val"]) if parts["test"] and parts["val"] else None
    source = file_source("csv", train, test, classes, verify=verify, max_broken=max_broken)
    source.val = val
    return source


def _rows(path: Path) -> list[_Row]:
    """(path, label, split) of each row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; DATASET.TYPE: csv:<file> names a list") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: no text in UTF-8") from None
    head = text.partition("\n")[0]
    lines = csv.reader(text.splitlines(), delimiter=next((mark for mark in ",;\t" if mark in head), ","))
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        places = {name: header.index(name) for name in (*_COLUMNS, "split") if name in header}
        for name in _COLUMNS:
            if name not in places:
                near = did_you_mean(name, header)
                raise DataError(
                    f"{path}: its first line names no column {name!r}{near}; expects path,label or path,label,split"
                )
        rows = [_row(path, lines.line_num, line, len(header), places) for line in lines if line]
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: {error}") from None
    if not rows:
        raise DataError(f"{path}: names no images")
    return rows


def _row(path: Path, number: int, line: Sequence[str], columns: int, places: dict[str, int]) -> _Row:
    where = f"{path}, line {number}"
    if len(line) != columns:
        raise DataError(f"{where}: {len(line)} fields, its first line has {columns}")
    file, label = (line[places[name]].strip() for name in _COLUMNS)
    if not file or not label or "\0" in file:
        raise DataError(f"{where}: {'path' if not file else 'label'} is empty")
    named = line[places["split"]].strip().lower() if "split" in places else ""
    if named and named not in _SPLITS:
        raise DataError(f"{where}: split {named!r} is none of train, test, val{did_you_mean(named, _SPLITS)}")
    return file, label, _SPLITS[named] if named else ""
