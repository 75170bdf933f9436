"""A run is a folder, and its name is its configuration."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from yacs.config import CfgNode

from kdbench.config.load import to_dict
from kdbench.errors import ConfigError
from kdbench.files import file_size, stored, write_atomically

_LONGEST = 255  # bytes of a file's name, on nearly every file system


class RunFolder:
    """Files of one run: ``config.yaml``, ``inputs.json``, ``metrics.jsonl``, ``timing.jsonl``, ``checkpoint.pt``,
    ``student.safetensors`` and, last of all, ``result.json``. With a readable student beside it, that means 'done'."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config, self.inputs = self.path / "config.yaml", self.path / "inputs.json"
        self.metrics = self.path / "metrics.jsonl"
        self.timing, self.checkpoint = self.path / "timing.jsonl", self.path / "checkpoint.pt"
        self.student, self.result = self.path / "student.safetensors", self.path / "result.json"

    @property
    def done(self) -> bool:
        """Whether the run has finished and left what it should."""
        return self.result.is_file() and not self.missing()

    def missing(self) -> str:
        """What is wrong with the exported student; empty where the file is there and whole."""
        try:
            with safe_open(self.student, "numpy") as file:
                return "" if file.keys() else f"{self.student} holds no weights"
        except FileNotFoundError:
            return f"{self.student} is missing"
        except (OSError, SafetensorError) as error:
            return f"{self.student} cannot be read ({error})"

    def check_place(self) -> None:
        """Make sure that the folder can be made.

        Raises:
            ConfigError: what ``LOG.PREFIX`` leads to is a file, or cannot be written to.
        """
        long = next((part for part in self.path.parts if len(os.fsencode(part)) > _LONGEST), "")
        if long:
            raise ConfigError(
                f"LOG.PREFIX, EXPERIMENT.NAME: File name too long: {long[:40]}... has {len(long)} letters"
            )
        try:
            there = next(path for path in (self.path, *self.path.parents) if path.exists())
        except OSError as error:
            raise ConfigError(f"LOG.PREFIX, EXPERIMENT.NAME: {str(self.path)[:80]}...: {error.strerror}") from None
        if not there.is_dir():
            raise ConfigError(f"LOG.PREFIX: {there} is a file; name a folder for the runs")
        if not os.access(there, os.W_OK | os.X_OK):
            raise ConfigError(f"LOG.PREFIX: {there} cannot be written to; name another folder")

    def forget_phases(self) -> None:
        """Delete what was kept of phases before the first epoch, which a finished run does not need."""
        for file in self.path.glob("phase-*"):
            with contextlib.suppress(OSError):
                file.unlink()

    def set_aside(self) -> None:
        """Rename a result that cannot be read, so that the run counts as not done."""
        with contextlib.suppress(OSError):
            os.replace(self.result, self.result.with_name(f"{self.result.name}.damaged"))

    def create(self, cfg: CfgNode) -> None:
        """Make the folder and write the configuration."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"LOG.PREFIX: {self.path} cannot be made: {error.strerror}; name another folder"
            ) from None
        with stored(self.config):
            write_atomically(self.config, yaml.safe_dump(to_dict(cfg), sort_keys=False))

    def append(self, file: Path, record: Mapping[str, Any]) -> None:
        """Append one line of JSON, or leave the file as it was.

        Raises:
            StorageError: it cannot be written.
        """
        with stored(file):
            size = file_size(file)
            try:
                with file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(record, allow_nan=False) + "\n")
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(file, size)
                raise

    def rewrite(self, file: Path, records: Iterable[Mapping[str, Any]]) -> None:
        """Make the file hold these lines of JSON."""
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        with contextlib.suppress(OSError):
            if file.read_bytes() == text.encode():
                return
        with stored(file):
            write_atomically(file, text)

    def truncate(self, file: Path, size: int) -> None:
        """Cut what was written after the checkpoint that a run resumes from."""
        with stored(file):
            if file.is_file() and file.stat().st_size > size:
                os.truncate(file, size)
