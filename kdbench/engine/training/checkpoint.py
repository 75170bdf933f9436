"""The state from which a killed run goes on."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from kdbench.errors import KdbenchError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write so that a reader, or a kill, finds either the old checkpoint or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint, or None where there is none; never executes code.

    Raises:
        KdbenchError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError):
        raise KdbenchError(f"{path} is damaged; delete it to start the run afresh") from None
