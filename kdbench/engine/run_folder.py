"""A run is a folder, and its name is its configuration."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from kdbench.config import to_dict
from kdbench.config_defaults import NOT_IDENTITY


def identity(cfg: CfgNode, *, teacher_sha256: str, student_sha256: str, data: str) -> str:
    """Hash of all that determines a run's result: the configuration without paths, logging and hardware, the weights that
    it starts from, and the data."""
    tree = to_dict(cfg)
    for key in NOT_IDENTITY:
        *path, last = key.split(".")
        node: Any = tree
        for part in path:
            node = node.get(part, {})
        node.pop(last, None)
    text = json.dumps([tree, teacher_sha256, student_sha256, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def run_name(cfg: CfgNode, digest: str) -> str:
    """A readable name that ends in the identity."""
    node = cfg.DISTILLER
    parts = [node.TYPE, node.TEACHER, node.STUDENT] if node.TEACHER else [node.TYPE, node.STUDENT]
    words = "-".join(re.sub(r"[^A-Za-z0-9_+.]+", "_", part) for part in parts if part)
    return f"{words}-s{cfg.EXPERIMENT.SEED}-{digest}"


class RunFolder:
    """Files of one run: ``config.yaml``, ``metrics.jsonl``, ``timing.jsonl``, ``checkpoint.pt``,
    ``student.safetensors`` and, last of all, ``result.json``, whose presence means 'done'."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config, self.metrics = self.path / "config.yaml", self.path / "metrics.jsonl"
        self.timing, self.checkpoint = self.path / "timing.jsonl", self.path / "checkpoint.pt"
        self.student, self.result = self.path / "student.safetensors", self.path / "result.json"

    @property
    def done(self) -> bool:
        """Whether the run has finished."""
        return self.result.is_file()

    def create(self, cfg: CfgNode) -> None:
        """Make the folder and write the configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config, yaml.safe_dump(to_dict(cfg), sort_keys=False))

    def append(self, file: Path, record: Mapping[str, Any]) -> None:
        """Append one line of JSON."""
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")

    def truncate(self, file: Path, size: int) -> None:
        """Cut what was written after the checkpoint that a run resumes from."""
        if file.is_file() and file.stat().st_size > size:
            os.truncate(file, size)

    def read_result(self) -> dict[str, Any]:
        """The result of a finished run."""
        return json.loads(self.result.read_text(encoding="utf-8"))


def file_size(file: Path) -> int:
    """Size in bytes; 0 for a file that does not exist."""
    return file.stat().st_size if file.is_file() else 0


def write_atomically(file: Path, text: str) -> None:
    """Write a text file so that a reader sees either the old or the whole new one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
