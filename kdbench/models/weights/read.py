"""Weights on disk: other projects' files and our own, read without executing anything in them."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdbench.errors import ModelError
from kdbench.models.weights.containers import check_count, check_tensors, find_state, tensors
from kdbench.models.weights.fit import identify, load_into
from kdbench.models.weights.recorded import Recorded, recorded_options
from kdbench.models.weights.torch_files import check_regular, load_torch, name_for_readers, read_head, unreadable
from kdbench.paths import user_path

__all__ = ["file_sha256", "identify", "load_into", "read_recorded", "read_weights", "state_sha256"]

#: key of our own metadata in a safetensors header
METADATA_KEY = "kdbench"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises:
        ModelError: it cannot be read, or is no regular file.
    """
    path = user_path(path)
    check_regular(path)
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise unreadable(Path(path), error) from error
    return digest.hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of the names, types, shapes and values of tensors, wherever they lie and in whatever order."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key}\0{value.dtype}\0{tuple(value.shape)}\n".encode(errors="surrogatepass"))
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(
    path: str | os.PathLike[str], *, use_ema: bool = False, needed: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state dict, on the CPU, without executing code of the file.

    Read are safetensors, and files of ``torch.save`` that hold a plain state dict or one under the names that training scripts
    give it (:data:`kdbench.models.weights.containers.STATE_KEYS`: ``model``, ``state_dict``, ``net`` ...; ``EMA_KEYS`` for moving
    averages), in any nesting. Numpy's numbers and arrays beside it are read as data. Prefixes that wrappers put in front of every
    key (``module.``, ``student.``, ``_orig_mod.`` ...) are taken off; of a distiller that was saved with its student and its
    teacher, the student is taken.

    Args:
        path: the file. Its tensors may be mapped from it, so copy them before the file is written to.
        use_ema: take the moving average of the weights. Without it, a file that holds both gives the weights
            themselves, and one that holds the average alone gives that.
        needed: state dict of the network that the weights are for; it decides where a file holds several.

    Returns:
        The state dict, and what the file says of it: for our own exports the metadata of
        :func:`kdbench.models.weights.export.save_student`, for other safetensors the header's strings, for others the numbers
        and strings beside the state dict (of ``argparse.Namespace`` too).

    Raises:
        ModelError: a file that is missing, empty, cut short, no checkpoint, without tensors (or without an asked moving
            average), that holds several different weights that could be meant or more than 100,000 entries, that needs code to be
            executed, or whose tensors are complex, sparse, quantised or of 8-bit floating point.
    """
    path = user_path(path)
    start = read_head(path)
    if _is_safetensors(path, start):
        state, metadata, own = _read_safetensors(path)
        found = state if own else find_state(path, state, use_ema, needed)
    else:
        content = load_torch(path, start)
        found = find_state(path, content, use_ema, needed)
        top = tensors(content)
        weights = top.keys() if any(value.dim() for value in top.values()) else set()
        metadata = {key: value for key, value in _facts(content).items() if key not in weights}
    check_tensors(path, found, needed)
    return found, metadata


def read_recorded(path: str | os.PathLike[str]) -> Recorded:
    """What the options stored beside the weights say of the network's input and classes.

    Raises:
        ModelError: as of :func:`read_weights`, but for what concerns the weights.
    """
    path = user_path(path)
    start = read_head(path)
    return Recorded() if _is_safetensors(path, start) else recorded_options(load_torch(path, start))


def _is_safetensors(path: Path, start: bytes) -> bool:
    return path.suffix.lower() == ".safetensors" or start[8:9] == b"{"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """Tensors, metadata, and whether the file is our own."""
    try:
        with name_for_readers(path) as name, safe_open(name, framework="pt", device="cpu") as file:
            header = dict(file.metadata() or {})
            keys = list(file.keys())
            check_count(path, len(keys))
            state = {key: file.get_tensor(key) for key in keys}
        own = METADATA_KEY in header
        metadata = json.loads(header[METADATA_KEY]) if own else header
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is cut short or damaged (safetensors); copy or download it again") from error
    if not state:
        raise ModelError(f"{path} holds no tensors")
    if not isinstance(metadata, dict):
        raise ModelError(f"{path}: its {METADATA_KEY!r} metadata is {metadata!r:.60}, no mapping; the file was changed")
    return state, metadata, own


def _facts(content: Mapping[Any, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, argparse.Namespace):
            value = {k: v for k, v in vars(value).items() if isinstance(v, (str, int, float, bool, type(None)))}
        elif isinstance(value, Tensor) and value.ndim == 0:
            try:
                value = value.item()
            except RuntimeError:  # of a tensor without values
                continue
        elif not isinstance(value, (str, int, float, bool)):
            continue
        facts[str(key)] = value
    return facts
