"""Splits whose images lie in files, and what the data sets made of files have in common."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kdbench.data.augmentation.decode import CentreCut, Cut, decode
from kdbench.data.prefetch import ahead
from kdbench.data.source import IMAGENET_STATISTICS, DataSource, Standard
from kdbench.errors import DataError

log = logging.getLogger(__name__)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_SIZE = 224
_CHECKERS = 8


class CutSplit:
    """A split of images of any size, each cut to one when it is fetched. What is derived from it gives the images."""

    labels: Tensor
    image_size: int

    def picture(self, position: int) -> Tensor:
        """(3, h, w) uint8, the image at a position."""
        raise NotImplementedError(f"{type(self).__name__} gives no images")

    def fetch(self, positions: Tensor) -> Tensor:
        """(B,) int64 -> (B, 3, S, S) uint8, resized and cut in the centre as for evaluation."""
        return self.fetch_cut(positions, CentreCut(self.image_size))

    def fetch_cut(self, positions: Tensor, cut: Cut) -> Tensor:
        """Decode and cut: (B,) int64 -> (B, 3, S, S) uint8.

        Raises:
            DataError: an image that cannot be decoded; no other takes its place.
        """
        images = [cut(self.picture(p), row) for row, p in enumerate(positions.tolist())]
        return torch.stack(images) if images else torch.empty(0, 3, 0, 0, dtype=torch.uint8)


class FileSplit(CutSplit):
    """A split of image files, decoded when they are fetched.

    Args:
        root: folder that the paths are relative to.
        files: N paths.
        labels: (N,) int64.
        image_size: side of what :meth:`fetch` gives, and the default elsewhere.

    Raises:
        DataError: no files, or another number of labels.
    """

    def __init__(self, root: Path, files: Sequence[str], labels: Tensor, image_size: int = _SIZE) -> None:
        if len(files) != len(labels) or len(files) == 0:
            raise DataError(f"{root}: {len(files)} image files but {len(labels)} labels")
        self.root, self.files, self.labels, self.image_size = root, list(files), labels, image_size

    def __len__(self) -> int:
        return len(self.files)

    def picture(self, position: int) -> Tensor:
        """(3, h, w) uint8, decoded."""
        return decode(self.root / self.files[position])

    def subset(self, positions: Tensor) -> FileSplit:
        """The split of these positions, in this order."""
        chosen = [self.files[p] for p in positions.tolist()]
        return FileSplit(self.root, chosen, self.labels[positions], self.image_size)

    def digest(self) -> str:
        """Hexadecimal fingerprint of relative paths, file sizes and labels, in order.

        Raises:
            DataError: a file is missing.
        """
        return self.digests()[0]

    def digests(self) -> tuple[str, str, str]:
        """:meth:`digest`, and two that change with the files' times, in one pass: with the times at which they were last written,
        which copies may keep (``cp -p``, ``rsync -t``), and also with those at which their entries last changed, which they do
        not. Copies of a data set share the first; a file that another of the same size replaces changes the last.

        Raises:
            DataError: a file is missing.
        """
        digest, written, touched = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        for name, label in zip(self.files, self.labels.tolist()):
            path = self.root / name
            try:
                found = os.stat(path)
            except OSError as error:
                raise DataError(f"{path}: {error.strerror}; restore the data set") from None
            line = f"{name}\0{found.st_size}\0{label}\n".encode("utf-8", "surrogateescape")
            digest.update(line)
            written.update(line + str(found.st_mtime_ns).encode())
            touched.update(line + f"{found.st_mtime_ns}\0{found.st_ctime_ns}".encode())
        return digest.hexdigest(), written.hexdigest(), touched.hexdigest()

    def broken(self) -> list[int]:
        """Positions of the files that cannot be decoded; each is logged with the reason."""

        def check(position: int) -> bool:
            try:
                decode(self.root / self.files[position])
            except DataError as error:
                log.warning("%s", error)
                return True
            return False

        return [p for p, bad in enumerate(ahead(check, range(len(self)), _CHECKERS)) if bad]


def usable(split: FileSplit, max_broken: int, remarks: list[str]) -> FileSplit:
    """The split without its broken images; ``remarks`` is told how many there were.

    Raises:
        DataError: more than ``max_broken`` are broken.
    """
    bad = split.broken()
    if len(bad) > max_broken:
        raise DataError(
            f"{split.root}: {len(bad)} broken images, the first is {split.files[bad[0]]}; restore them, or let "
            f"DATASET.OPTIONS.max_broken allow as many"
        )
    if not bad:
        return split
    told = f"{len(bad)} of {len(split)} images of {split.root.name}/ that cannot be decoded (the first: {split.files[bad[0]]})"
    log.warning("left out: %s", told)
    remarks.append(told)
    left_out = set(bad)
    return split.subset(torch.tensor([p for p in range(len(split)) if p not in left_out]))


def file_source(
    name: str,
    train: FileSplit,
    test: FileSplit,
    classes: list[str],
    *,
    verify: bool,
    max_broken: int,
    remarks: Sequence[str] = (),
) -> DataSource:
    """A data set of files with ImageNet's statistics and RandomResizedCrop as its usual augmentation.

    Args:
        verify: decode every image now, and leave out up to ``max_broken`` broken ones a split.
        remarks: what was left out already.

    Raises:
        DataError: too many broken images, or a class without training images.
    """
    told = list(remarks)
    if verify:
        train, test = usable(train, max_broken, told), usable(test, max_broken, told)
    counts = torch.bincount(train.labels, minlength=len(classes))
    if int(counts.min()) == 0:
        raise DataError(f"{train.root}: class {classes[int(counts.argmin())]!r} has no training images")
    standard = Standard(crop="rrc", pad=0, flip=0.5)
    return DataSource(name, train, test, classes, IMAGENET_STATISTICS, standard, left_out=tuple(told))


def require_folder(path: Path, remedy: str) -> Path:
    """``path`` if it is a folder.

    Raises:
        DataError: it is not; the message ends with ``remedy``.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; {remedy}")
    return path


def read_lines(path: Path, fields: int, remedy: str) -> Iterator[list[str]]:
    """The lines of an index file, split at the first blanks into ``fields`` parts; empty lines are skipped.

    Raises:
        DataError: no such file, no text, or a line with fewer parts.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {remedy}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; {remedy}") from None
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split(maxsplit=fields - 1)
        if len(parts) == fields:
            yield [part.strip() for part in parts]
        elif parts:
            raise DataError(f"{path}:{number}: {line[:60]!r} does not have {fields} fields; {remedy}")


def class_folders(
    folder: Path, remedy: str, classes: Sequence[str] | None = None, remarks: list[str] | None = None
) -> tuple[list[str], Tensor, list[str]]:
    """Files of a tree ``<class>/<image>``, in the order of their names; ``remarks`` is told what else lies in the class folders.

    Returns:
        Paths relative to ``folder``, (N,) labels, class names.

    Raises:
        DataError: no class folders, one of ``classes`` is missing, or a class folder without images.
    """
    require_folder(folder, remedy)
    with os.scandir(folder) as entries:
        found = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    names = list(found if classes is None else classes)
    if not names:
        raise DataError(f"{folder}: holds no class folders; {remedy}")
    missing = sorted(set(names) - set(found))
    if missing:
        raise DataError(f"{folder}: class folder {missing[0]!r} is missing ({len(missing)} in all); {remedy}")
    files: list[str] = []
    labels: list[int] = []
    others: list[str] = []
    for label, name in enumerate(names):
        with os.scandir(folder / name) as entries:
            there = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        images = [entry for entry in there if entry.lower().endswith(SUFFIXES)]
        others += [f"{name}/{entry}" for entry in there if not entry.lower().endswith(SUFFIXES)]
        if not images:
            raise DataError(f"{folder / name}: holds no images ({', '.join(SUFFIXES)}); {remedy}")
        files += [f"{name}/{image}" for image in images]
        labels += [label] * len(images)
    if others and remarks is not None:
        what = (
            f"{len(others)} {'entry' if len(others) == 1 else 'entries'} of {folder.name}/ without a suffix of images"
        )
        remarks.append(f"{what} ({', '.join(SUFFIXES)}; the first: {others[0]})")
    return files, torch.tensor(labels), names


def check_count(what: str, where: str | Path, found: int, expected: int, remedy: str) -> None:
    """DataError unless ``found`` is the official number."""
    if found != expected:
        raise DataError(
            f"{where}: {found} {what} instead of {expected}; {remedy} (DATASET.OPTIONS.allow_partial accepts a part)"
        )
