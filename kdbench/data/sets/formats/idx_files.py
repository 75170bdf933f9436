"""The four IDX files of MNIST and of those made in its image: found, fetched, checked, read as numbers and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets.utils import download_url

from kdbench.data.source import MemorySplit
from kdbench.errors import DataError

log = logging.getLogger(__name__)
#: names of the files, images and labels of either part
TRAIN, TEST = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
_MOST = 200_000_000  # bytes of an unpacked file; the largest official one has 47,040,016


@dataclass(frozen=True)
class IdxFiles:
    """One of the data sets.

    Attributes:
        title: its folder's name, as torchvision has it.
        url: folder of the official files.
        packed: md5 of each file as it is published, gzipped, by its name without ``.gz``.
        unpacked: md5 of its content; empty where only the former is known.
        system: folders outside of ``DATASET.ROOT`` where a distribution puts it.
    """

    title: str
    url: str
    packed: Mapping[str, str]
    unpacked: Mapping[str, str]
    system: tuple[str, ...] = ()

    def places(self, root: str | Path) -> list[Path]:
        """Folders in which the files may lie, the likeliest first."""
        names = (self.title, self.title.lower(), self.title.replace("MNIST", "-mnist").lower().lstrip("-"))
        own = [Path(root), *(Path(root) / name / end for name in dict.fromkeys(names) for end in ("raw", "."))]
        return [*own, *map(Path, self.system)]


def read_files(
    files: IdxFiles, root: str | Path, *, download: bool, check: bool = True
) -> tuple[MemorySplit, MemorySplit]:
    """Training and test images and labels.

    Args:
        files: which.
        root: ``DATASET.ROOT``.
        download: fetch them where they are nowhere.
        check: refuse what is not the official file.

    Raises:
        DataError: a file is missing, cannot be fetched, is not the official one, or is no IDX file of images and labels.
    """
    folder = _folder(files, Path(root), download)
    found = {name: _content(files, folder, name, check) for name in (*TRAIN, *TEST)}
    train, test = (_split(found[images], found[labels], folder) for images, labels in (TRAIN, TEST))
    return train, test


def _folder(files: IdxFiles, root: Path, download: bool) -> Path:
    def there(folder: Path, name: str) -> bool:
        return any((folder / f"{name}{end}").is_file() for end in ("", ".gz"))

    wanted = (*TRAIN, *TEST)
    for folder in files.places(root):
        found = [name for name in wanted if there(folder, name)]
        if len(found) == len(wanted):
            return folder
        if found:
            missing = next(name for name in wanted if name not in found)
            raise DataError(f"{folder}: {missing} is missing beside {found[0]}; get {files.url}{missing}.gz")
    target = root / files.title / "raw"
    remedy = f"put the four files of {files.url} into {target}"
    if not download:
        raise DataError(f"{root}: no {files.title} there; {remedy}")
    for name in wanted:
        _download(files, name, target, remedy)
    return target


def _download(files: IdxFiles, name: str, folder: Path, remedy: str) -> None:
    log.info("downloading %s%s.gz", files.url, name)
    part = f".{name}.{os.getpid()}"  # several processes may download at once
    try:
        download_url(f"{files.url}{name}.gz", str(folder), filename=part, md5=files.packed[name])
        os.replace(folder / part, folder / f"{name}.gz")
    except (OSError, RuntimeError, EOFError) as error:
        (folder / part).unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{folder}: not there, and cannot be downloaded ({reason}); {remedy}") from None


def _content(files: IdxFiles, folder: Path, name: str, check: bool) -> tuple[Path, bytes]:
    """A file's content, unpacked."""
    plain, zipped = folder / name, folder / f"{name}.gz"
    path = plain if plain.is_file() else zipped
    try:
        blob = path.read_bytes()
        packed = _md5(blob) if path == zipped else ""
        if path == zipped:
            with gzip.open(path) as stream:
                blob = stream.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split())[:80]
        raise DataError(f"{path}: cannot be read ({reason}); get {files.url}{name}.gz again") from None
    if len(blob) > _MOST:
        raise DataError(f"{path}: has more than {_MOST:,} bytes unpacked, which no file of {files.title} has")
    known = files.unpacked.get(name, "")
    if check and packed != files.packed[name] and _md5(blob) != known:
        found = f"md5 of its content is {_md5(blob)} instead of {known}" if known else "only the published .gz is known"
        raise DataError(
            f"{path}: is not the official file ({found}); get {files.url}{name}.gz again "
            "(DATASET.OPTIONS.allow_partial accepts others)"
        )
    return path, blob


def _md5(blob: bytes) -> str:
    return hashlib.md5(blob, usedforsecurity=False).hexdigest()


def _split(images: tuple[Path, bytes], labels: tuple[Path, bytes], folder: Path) -> MemorySplit:
    pixels, numbers = _array(*images, dimensions=3), _array(*labels, dimensions=1)
    if pixels.shape[1] != pixels.shape[2] or len(pixels) != len(numbers) or not len(numbers):
        raise DataError(f"{folder}: {pixels.shape} images and {numbers.shape} labels do not make a data set")
    if numbers.max() > 9:
        raise DataError(f"{labels[0]}: label {numbers.max()} is none of 0 to 9")
    # copies: the bytes of a file cannot be written to
    return MemorySplit(torch.from_numpy(pixels.copy())[:, None], torch.from_numpy(numbers.astype(np.int64)))


def _array(path: Path, blob: bytes, dimensions: int) -> np.ndarray:
    """The numbers of an IDX file of bytes: two zeros, 8 for unsigned bytes, the number of dimensions, their sizes, the values."""
    start = 4 + 4 * dimensions
    if len(blob) < start or blob[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(
            f"{path}: is no IDX file of {dimensions} dimensions (begins with {blob[:4].hex() or 'nothing'})"
        )
    shape = tuple(int(size) for size in np.frombuffer(blob, ">u4", dimensions, 4))
    if len(blob) - start != int(np.prod([*shape], dtype=object)):
        raise DataError(f"{path}: has {len(blob) - start} values, its head says {' x '.join(map(str, shape))}")
    return np.frombuffer(blob, np.uint8, offset=start).reshape(shape)
