"""The state from which a killed run goes on: the last epoch's, and in case that is damaged, the one before."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from kdbench.files import stored
from kdbench.seal import BrokenSealError, open_sealed, seal_file

log = logging.getLogger(__name__)
#: what a checkpoint holds besides the states of a run's parts
_PLAIN = {"epoch": int, "history": list, "metrics_bytes": int, "timing_bytes": int}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write so that a reader, or a kill, finds a whole checkpoint: the new one, or the one that was there, which is kept.

    Raises:
        StorageError: it cannot be written; what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with stored(path):
            with temporary.open("w+b") as stream:
                _write(state, stream)
                seal_file(stream)
                stream.flush()
                os.fsync(stream.fileno())
            if path.is_file():
                os.replace(path, previous(path))
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _write(state: dict[str, Any], stream: IO[bytes]) -> None:
    """``torch.save``, whose own error says nothing of the disk's."""
    watched = _Watched(stream)
    try:
        torch.save(state, watched)  # type: ignore[arg-type]
    except RuntimeError:
        if watched.error is not None:
            raise watched.error from None
        raise


class _Watched:
    """A file that remembers what went wrong when it was written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self._stream.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._stream.flush()


def previous(path: Path) -> Path:
    """Where the checkpoint before the last one lies."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def forget_previous(path: Path) -> None:
    """Delete the checkpoint before the last one, which a finished run does not need."""
    with contextlib.suppress(OSError):
        previous(path).unlink()


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The last checkpoint that is whole, or None where there is none; never executes code. One that is damaged is renamed to
    ``*.damaged``, and a line says what is gone on from."""
    for place, instead in ((path, "the checkpoint of the epoch before"), (previous(path), "the beginning")):
        if not place.is_file():
            continue
        try:
            return _read(place)
        except (ValueError, RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, TypeError) as error:
            aside = place.with_name(f"{place.name}.damaged")
            reason = " ".join(str(error).split())[:160]
            log.warning(
                "%s is damaged (%s); it is renamed to %s, and the run goes on from %s",
                place,
                reason,
                aside.name,
                instead,
            )
            with contextlib.suppress(OSError):
                os.replace(place, aside)
    return None


def _read(path: Path) -> dict[str, Any]:
    with open_sealed(path) as stream:
        state = torch.load(stream, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping):
        raise BrokenSealError(f"it holds a {type(state).__name__}")
    for key, kind in _PLAIN.items():
        if not isinstance(state.get(key), kind):
            raise BrokenSealError(f"its {key} is {state.get(key)!r:.40}")
    return dict(state)
