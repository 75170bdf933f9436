"""Files of ``torch.save``, read without executing anything in them."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import re
import stat
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from kdbench.errors import ModelError
from kdbench.escape import visible
from kdbench.models.weights.inert import inert_globals

_HEAD_BYTES = 512
_LARGEST_PICKLE = 500_000_000  # bytes of an archive that are no tensors'
_LONGEST_NAME = 80
_PART = 1 << 22  # bytes that are read at once
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: Path) -> None:
    """Refuse what is no file with an end: reading a device or a pipe never returns.

    Raises:
        ModelError: it is missing, a folder, a device, a pipe or a socket.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        raise ModelError(f"{path} is a folder; expected a file of weights")
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
        raise ModelError(f"{path} is {kind}; expected a file of weights")


@contextlib.contextmanager
def name_for_readers(path: Path) -> Iterator[str]:
    """A name under which readers that are no Python find a file: its own, or that of an open descriptor where the file's is not
    UTF-8, as they take no other."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with open(path, "rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def unreadable(path: Path, error: Exception) -> ModelError:
    """The one line for a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return ModelError(f"{path} does not exist; expected a file of weights")
    return ModelError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def read_head(path: Path) -> bytes:
    """The first bytes of a file that may be one of weights.

    Raises:
        ModelError: it cannot be read, or is surely none.
    """
    check_regular(path)
    try:
        with open(path, "rb") as file:
            start = file.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    problem = _not_weights(start)
    if problem:
        raise ModelError(f"{path} {problem}")
    return start


def _not_weights(start: bytes) -> str:
    """What a file is that begins so, if it is surely no file of weights."""
    if not start:
        return "is empty; copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the weights themselves; fetch them with 'git lfs pull'"
    if re.match(rb"\s*<(!doctype|html|head|\?xml)", start, re.IGNORECASE):
        return "looks like a web page, not weights; the download was answered by a page, download the file itself"
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")) or start[257:262] == b"ustar":
        return "is a compressed archive, not weights; unpack it and name the file inside"
    if all(byte >= 32 or byte in b"\t\n\f\r" for byte in start):
        return "is a text file, not weights"
    return ""


def load_torch(path: Path, start: bytes) -> Any:
    """The content of a file that begins with ``start``: tensors on the CPU, numbers, texts, and their containers.

    Raises:
        ModelError: it is damaged, no file of ``torch.save``, or needs code to be executed.
    """
    damaged = f"{path} is cut short or damaged, or no file of torch.save; copy or download it again"
    zipped = start.startswith(b"PK")
    if zipped:
        _check_archive(path, damaged)
    elif not start.startswith(pickle.PROTO):
        raise ModelError(damaged)
    try:
        with inert_globals(), warnings.catch_warnings(), name_for_readers(path) as name:
            warnings.simplefilter("ignore")
            return torch.load(name, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({found.group(1)})" if found else " or is damaged,"
        raise ModelError(
            f"{path} needs code to be executed{what} and is refused; where you trust it, re-save only its state dict: "
            "torch.save(model.state_dict(), file)"
        ) from error
    except Exception as error:
        # a damaged file makes the reader fail in any way: EOFError, IndexError, struct.error, RuntimeError ...
        raise ModelError(damaged) from error


def _check_archive(path: Path, damaged: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            largest = max((info.file_size for info in archive.infolist() if info.filename.endswith(".pkl")), default=0)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(damaged) from error
    if largest > _LARGEST_PICKLE:
        raise ModelError(
            f"{path} unpacks to {largest:,} bytes beside its tensors, as no checkpoint does; name a file of weights"
        )
    if any(name.endswith("/constants.pkl") for name in names):
        raise ModelError(
            f"{path} is a TorchScript archive, which needs code to be executed, and is refused; "
            "re-save only its state dict: torch.save(model.state_dict(), file)"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise ModelError(f"{path} is a zip that is no checkpoint (it holds {some(names)}); name a file of weights")
    found = os.stat(path)
    if not _is_whole(path, found.st_ino, found.st_size, found.st_mtime_ns):
        raise ModelError(damaged)


@functools.lru_cache
def _is_whole(path: Path, *_: int) -> bool:
    """Whether an archive's contents have the checksums that it records; its reader does not look at them. One of 0 was not computed
    (``torch.serialization.set_crc32_options``). Asked once for a state of the file."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or not info.CRC:
                continue
            try:
                with archive.open(info) as stream:
                    while stream.read(_PART):
                        pass
            except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError):
                return False
    return True


def some(names: Iterable[Any], limit: int = 8) -> str:
    """The first of some names, and how many there are."""
    names = [name_of(name) for name in names]
    return (", ".join(names[:limit]) + (f", ... ({len(names)})" if len(names) > limit else "")) or "nothing"


def name_of(key: Any) -> str:
    """A key of a file for a message: in one line, and cut where it is very long."""
    text = visible(str(key)[: _LONGEST_NAME + 1])
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."
