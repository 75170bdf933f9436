"""Weights on disk: other projects' files and our own, read without executing anything in them."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdbench.errors import ModelError
from kdbench.models.fitting import identify, load_into
from kdbench.paths import user_path

log = logging.getLogger(__name__)
__all__ = ["file_sha256", "identify", "load_into", "read_weights", "state_sha256"]

#: key of our own metadata in a safetensors header
METADATA_KEY = "kdbench"
#: where training scripts put the state dict: timm and OFAKD, mdistiller and RepDistiller
STATE_KEYS = ("state_dict", "model")
EMA_KEYS = ("state_dict_ema", "model_ema")
#: what wrappers (DataParallel, torch.compile, distillers) put in front of every key
PREFIXES = ("module.", "_orig_mod.", "student.", "backbone.")
#: a distiller's student and teacher in one state dict
PAIR = ("student.", "teacher.")
_HEAD_BYTES = 512


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises:
        ModelError: the file cannot be read.
    """
    digest = hashlib.sha256()
    path = user_path(path)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(Path(path), error) from error
    return digest.hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of the names, types, shapes and values of tensors, wherever they lie and in whatever order."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key}\0{value.dtype}\0{tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(path: str | os.PathLike[str], *, use_ema: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state dict, on the CPU, without executing code of the file.

    Read are safetensors, and files of ``torch.save`` that hold a plain state dict, ``{"model": ...}`` (mdistiller,
    RepDistiller) or ``{"state_dict": ...}`` / ``{"state_dict_ema": ...}`` (OFAKD, timm). A prefix that a wrapper put in
    front of every key (``module.``, ``student.``, ``backbone.``, ``_orig_mod.``) is taken off; of a distiller that was
    saved with its student and its teacher, the student is taken.

    Args:
        path: the file. Its tensors may be mapped from it, so copy them before the file is written to.
        use_ema: take the moving average of the weights. Without it, a file that holds both gives the weights
            themselves, and one that holds the average alone gives that.

    Returns:
        The state dict, and what the file says of it: for our own exports the metadata of
        :func:`kdbench.models.export.save_student`, for other safetensors the header's strings, for others the numbers
        and strings beside the state dict (of ``argparse.Namespace`` too).

    Raises:
        ModelError: a file that is missing, empty, cut short, no checkpoint, without tensors (or without an asked moving
            average), or that needs code to be executed.
    """
    path = user_path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(_HEAD_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    problem = _not_weights(start)
    if problem:
        raise ModelError(f"{path} {problem}")
    if path.suffix.lower() == ".safetensors" or start[8:9] == b"{":
        state, metadata = _read_safetensors(path)
    else:
        state, metadata = _unwrap(path, _torch_load(path, start), use_ema)
    return _strip_prefixes(state), metadata


def _unreadable(path: Path, error: OSError) -> ModelError:
    if isinstance(error, FileNotFoundError):
        return ModelError(f"{path} does not exist; expected a file of weights")
    if isinstance(error, IsADirectoryError):
        return ModelError(f"{path} is a folder; expected a file of weights")
    return ModelError(f"{path} cannot be read: {error.strerror or error}")


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


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = dict(file.metadata() or {})
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        metadata = json.loads(header[METADATA_KEY]) if METADATA_KEY in header else header
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is cut short or damaged (safetensors); copy or download it again") from error
    if not state:
        raise ModelError(f"{path} holds no tensors")
    return state, metadata


def _torch_load(path: Path, start: bytes) -> Any:
    damaged = f"{path} is cut short or damaged, or no file of torch.save; copy or download it again"
    zipped = start.startswith(b"PK")
    if zipped:
        _check_archive(path, damaged)
    elif not start.startswith(pickle.PROTO):
        raise ModelError(damaged)
    try:
        # Namespace is a bag of attributes whose loading runs no code; RepDistiller and timm store their options so
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
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
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(damaged) from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise ModelError(
            f"{path} is a TorchScript archive, which needs code to be executed, and is refused; "
            "re-save only its state dict: torch.save(model.state_dict(), file)"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise ModelError(f"{path} is a zip that is no checkpoint (it holds {_some(names)}); name a file of weights")


def _unwrap(path: Path, content: Any, use_ema: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}; expected a state dict")
    held = {key: state for key in (*STATE_KEYS, *EMA_KEYS) if (state := _tensors(content.get(key)))}
    averaged = [key for key in held if key in EMA_KEYS]
    if use_ema and held and not averaged:
        raise ModelError(f"{path} holds no moving average ({', '.join(EMA_KEYS)}), only {', '.join(held)}")
    if held:
        chosen = averaged[0] if use_ema else next(iter(held))
        if len(held) > 1:
            log.info("%s holds %s; taking %s (WEIGHTS_EMA chooses)", path, " and ".join(held), chosen)
        return held[chosen], _facts(content)
    # a nested mapping marks a wrapper, whose own few tensors (an accuracy) are no weights
    state = {} if any(isinstance(value, Mapping) for value in content.values()) else _tensors(content)
    if not state:
        raise ModelError(
            f"{path} holds no tensors at its top or under {', '.join((*STATE_KEYS, *EMA_KEYS))}; "
            f"its keys: {_some(content)}"
        )
    return state, {key: value for key, value in _facts(content).items() if key not in state}


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _facts(content: Mapping[Any, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, argparse.Namespace):
            value = {k: v for k, v in vars(value).items() if isinstance(v, (str, int, float, bool, type(None)))}
        elif isinstance(value, Tensor) and value.ndim == 0:
            value = value.item()
        elif not isinstance(value, (str, int, float, bool)):
            continue
        facts[str(key)] = value
    return facts


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while True:
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None and all(any(key.startswith(p) for key in state) for p in PAIR):
            # mdistiller's distillers save teacher, student and their own modules as one
            prefix = PAIR[0]
            state = {key: value for key, value in state.items() if key.startswith(prefix)}
        if prefix is None:
            return state
        state = {key[len(prefix) :]: value for key, value in state.items()}


def _some(names: Any, limit: int = 8) -> str:
    names = [str(name) for name in names]
    return (", ".join(names[:limit]) + (f", ... ({len(names)})" if len(names) > limit else "")) or "nothing"
