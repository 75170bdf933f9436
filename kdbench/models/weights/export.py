"""The file that a run leaves: a network's weights as safetensors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kdbench.domains import as_statistics
from kdbench.errors import ModelError
from kdbench.models.spec import Statistics
from kdbench.models.weights.read import METADATA_KEY
from kdbench.paths import user_path


def save_student(path: str | os.PathLike[str], module: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write ``module``'s state dict as safetensors, with ``metadata`` as JSON in the header; all of it or nothing.

    Tensors that share memory (tied weights) are written once each, so that the file loads into any network of the
    layout.

    Raises:
        ModelError: a weight is not finite, or the file cannot be written.
        TypeError: the metadata is no JSON.
    """
    path = Path(path)
    state = module.state_dict()
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{path} is not written: {key} holds NaN or infinity")
    header = {"format": "pt", METADATA_KEY: json.dumps(dict(metadata), sort_keys=True, allow_nan=False)}
    written, partial = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("library", "tmp"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(_apart(state), written, metadata=header)
            # copied: safetensors creates its files readable for their owner alone, whatever the umask says
            with open(written, "rb") as source, open(partial, "wb") as file:
                _copy_with_sorted_header(source, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            written.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path} cannot be written: {error}") from error


def own_statistics(metadata: Mapping[str, Any], source: str) -> Statistics | None:
    """The input statistics that an exported student records, or None where it records none.

    Raises:
        ModelError: they are no finite mean and finite, positive standard deviation of three channels.
    """
    recorded = metadata.get("statistics")
    if recorded is None:
        return None
    found = as_statistics(recorded)
    if found is None:
        raise ModelError(
            f"{source}: its statistics {recorded!r:.80} are no [[mean x 3], [std x 3]] with positive std; the file was changed, "
            "export it anew"
        )
    return found


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What an exported student says of itself; empty for any other file."""
    try:
        with safe_open(user_path(path), "numpy") as file:
            values = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (OSError, SafetensorError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU that share no memory. Nothing else is copied: ViT-L and its optimizer take 5 GB."""
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, value in state.items():
        tensor = value.detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        apart[key] = tensor
    return apart


def _copy_with_sorted_header(source: BinaryIO, target: BinaryIO) -> None:
    """Copy a safetensors file with the keys of its JSON header sorted: the library writes the metadata in an order that
    changes from call to call, and equal runs shall give equal files."""
    length = int.from_bytes(source.read(8), "little")
    header = json.dumps(json.loads(source.read(length)), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    target.write(len(header).to_bytes(8, "little") + header)
    shutil.copyfileobj(source, target, 1 << 20)
