"""The python version of the CIFAR archives: found, checked, and read without executing anything."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.utils import download_url

from kdbench.data.source import MemorySplit
from kdbench.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """One of the archives (Krizhevsky, *Learning multiple layers of features from tiny images*, 2009).

    Attributes:
        url, folder: where it lies, and the folder in it.
        md5: of the archive.
        files: file name in the folder -> md5.
    """

    url: str
    folder: str
    md5: str
    files: dict[str, str]

    @property
    def file(self) -> str:
        """Name of the archive."""
        return self.url.rpartition("/")[2]


def read_archive(archive: Archive, root: str | Path, *, download: bool) -> dict[str, dict[str, Any]]:
    """Contents of the archive's pickles, from the extracted folder in ``root``, else from the archive, else downloaded.

    Raises:
        DataError: nothing is there and cannot be downloaded, a file is missing, or an md5 differs.
    """
    root = Path(root)
    folder, packed = root / archive.folder, root / archive.file
    if not folder.is_dir():
        if not packed.is_file():
            _download(archive, root, allowed=download)
        blobs = _unpack(archive, packed)
    else:
        blobs = {name: _read(folder / name, archive) for name in archive.files}
    contents = {}
    for name, md5 in archive.files.items():
        where = folder / name if folder.is_dir() else f"{packed}:{name}"
        blob = blobs.pop(name)
        _check_md5(blob, md5, where, archive)
        contents[name] = _unpickle(blob, where)
    return contents


def memory_split(parts: Sequence[dict[str, Any]], labels_key: str, where: str) -> MemorySplit:
    """The images (rows of 3072 bytes: red, green, blue plane) and labels of some pickles as one split.

    Raises:
        DataError: a pickle is not what the format says.
    """
    try:
        rows = [np.asarray(part["data"], dtype=np.uint8).reshape(-1, 3, 32, 32) for part in parts]
        labels = [label for part in parts for label in part[labels_key]]
        # One part is taken as it is, so that the images are never in memory twice.
        images = torch.from_numpy(rows[0] if len(rows) == 1 else np.concatenate(rows))
        return MemorySplit(images, torch.tensor(labels, dtype=torch.int64))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{where}: not in the python version's format ({error!r})") from None


def class_names(meta: dict[str, Any], key: str, labels: Tensor, where: str) -> list[str]:
    """Class names, checked against the labels.

    Raises:
        DataError: there are none, or fewer than labels.
    """
    names = meta.get(key)
    if not isinstance(names, list) or not names:
        raise DataError(f"{where}: has no {key!r}")
    if int(labels.min()) < 0 or int(labels.max()) >= len(names):
        raise DataError(f"{where}: {len(names)} class names, but labels {int(labels.min())}..{int(labels.max())}")
    return [str(name) for name in names]


def _read(path: Path, archive: Archive) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; extract {archive.file} ({archive.url}) again") from None


def _unpack(archive: Archive, path: Path) -> dict[str, bytes]:
    blob = _read(path, archive)
    _check_md5(blob, archive.md5, path, archive)
    blobs = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
            for name in archive.files:
                member = tar.extractfile(f"{archive.folder}/{name}")
                if member is None:
                    raise KeyError(name)
                blobs[name] = member.read()
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise DataError(f"{path}: no complete archive ({error}); download {archive.url} again") from None
    return blobs


def _check_md5(blob: bytes, expected: str, where: str | Path, archive: Archive) -> None:
    found = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(f"{where}: md5 is {found} instead of {expected}; remove it and download {archive.url} again")


def _download(archive: Archive, root: Path, *, allowed: bool) -> None:
    remedy = f"download {archive.url} and put {archive.file} or its folder {archive.folder} into {root}"
    if not allowed:
        raise DataError(f"{root / archive.folder}: no such folder; {remedy}")
    log.info("downloading %s", archive.url)
    part = f".{archive.file}.{os.getpid()}"  # several processes may download at once
    try:
        download_url(archive.url, str(root), filename=part, md5=archive.md5)
        os.replace(root / part, root / archive.file)
    except (OSError, RuntimeError, EOFError) as error:
        (root / part).unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{root / archive.folder}: not there, and cannot be downloaded ({reason}); {remedy}") from None


def _latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes encoded as {encoding}")
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    """What an array is rebuilt with; ``_codecs.encode`` is how Python 3 writes bytes in protocol 2."""
    rebuild = np.empty(0).__reduce__()[0]
    found: dict[tuple[str, str], Any] = {("_codecs", "encode"): _latin1}
    for core in ("numpy.core", "numpy._core"):
        found[(f"{core}.multiarray", "_reconstruct")] = rebuild
    found[("numpy", "ndarray")], found[("numpy", "dtype")] = np.ndarray, np.dtype
    return found


class _ArrayUnpickler(pickle.Unpickler):
    """Lists, dictionaries, text, numbers and numpy arrays; nothing else is ever called."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _allowed()[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no data needs") from None


def _unpickle(blob: bytes, where: str | Path) -> dict[str, Any]:
    try:
        content = _ArrayUnpickler(io.BytesIO(blob), encoding="latin1").load()
    except Exception as error:  # noqa: BLE001 - a damaged pickle may raise anything
        raise DataError(f"{where}: cannot be read ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(content, dict):
        raise DataError(f"{where}: holds no dictionary")
    return content
