"""The python version of the CIFAR archives: found, checked, and read without executing anything."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.utils import calculate_md5, download_url

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
    if not folder.is_dir() and not packed.is_file():
        _download(archive, root, allowed=download)
    contents = {}
    # One file after the other, so that the archive is never in memory as a whole.
    for name, where, blob in _extracted(archive, folder) if folder.is_dir() else _packed(archive, packed):
        _check_md5(hashlib.md5(blob, usedforsecurity=False).hexdigest(), archive.files[name], where, archive)
        contents[name] = _unpickle(blob, where)
    missing = sorted(set(archive.files) - set(contents))
    if missing:
        raise DataError(f"{packed}: no complete archive ({missing[0]} is missing); download {archive.url} again")
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


def _extracted(archive: Archive, folder: Path) -> Iterator[tuple[str, str, bytes]]:
    for name in archive.files:
        try:
            yield name, str(folder / name), (folder / name).read_bytes()
        except OSError as error:
            raise DataError(
                f"{folder / name}: {error.strerror}; extract {archive.file} ({archive.url}) again"
            ) from None


def _packed(archive: Archive, path: Path) -> Iterator[tuple[str, str, bytes]]:
    try:
        _check_md5(calculate_md5(path), archive.md5, path, archive)
        with tarfile.open(path) as tar:
            for member in tar:
                folder, _, name = member.name.partition("/")
                content = tar.extractfile(member) if folder == archive.folder and name in archive.files else None
                if content is not None:
                    yield name, f"{path}:{name}", content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: no complete archive ({error}); download {archive.url} again") from None


def _check_md5(found: str, expected: str, where: str | Path, archive: Archive) -> None:
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
