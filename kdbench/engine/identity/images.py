"""The content of image files: read once, and again only where a file was touched since."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from kdbench.data.prefetch import ahead
from kdbench.data.sets.files import FileSplit
from kdbench.data.source import DataSource
from kdbench.errors import DataError
from kdbench.records import is_text, mapping_of, read_record, set_aside, write_record

log = logging.getLogger(__name__)
FOLDER = ".images"
_READERS = 8
_LONG = 4e9  # bytes from which on reading them is worth a word
_SHOWN = 256  # files of a split whose own digests are kept, to name one that differs
_KINDS = {"stamp": is_text, "all": mapping_of(is_text), "some": mapping_of(is_text)}


def touched(data: DataSource) -> str:
    """What changes whenever an image file was touched, see :meth:`DataSource.touched`; empty for images in memory: their
    fingerprint is one of content."""
    return data.touched() if _splits(data) else ""


def contents(data: DataSource, stamp: str, store: Path) -> dict[str, Any]:
    """Digests of all image files: ``{"all": {split: digest}, "some": {file: digest}}``, with those of up to 256 evenly spaced
    files of each split on their own.

    Args:
        data: data set.
        stamp: of :func:`touched`; what was computed for it once is taken from ``store``.
        store: folder to remember it in.
    """
    file = store / FOLDER / f"{stamp[:16]}.json"
    try:
        known = read_record(file, _KINDS, {})
        if known["stamp"] == stamp:
            return {"all": known["all"], "some": known["some"]}
    except OSError:
        pass
    except ValueError as error:
        set_aside(file, error, "the images are read again")
    size = sum(_stat(split, name).st_size for split in _splits(data).values() for name in split.files)
    if size > _LONG:
        log.info("reading %.1f GB of images once, for the digest of their content", size / 1e9)
    found: dict[str, Any] = {"all": {}, "some": {}}
    for part, split in _splits(data).items():
        every = -(-len(split) // _SHOWN)
        whole = hashlib.sha256()
        paths = [Path(split.root) / name for name in split.files]
        for number, digest in enumerate(ahead(_digest, paths, _READERS, depth=4)):
            whole.update(digest.encode())
            if number % every == 0:
                found["some"][f"{Path(split.root).name}/{split.files[number]}"] = digest[:16]
        found["all"][part] = whole.hexdigest()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_record(file, {"stamp": stamp, **found})
    except OSError as error:
        log.warning("%s cannot be written (%s)", file, error.strerror)
    return found


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; restore the data set") from None


def _stat(split: FileSplit, name: str) -> os.stat_result:
    try:
        return os.stat(Path(split.root) / name)
    except OSError as error:
        raise DataError(f"{Path(split.root) / name}: {error.strerror}; restore the data set") from None


def _splits(data: DataSource) -> dict[str, FileSplit]:
    return {part: split for part in ("train", "test", "val") if isinstance(split := getattr(data, part), FileSplit)}
