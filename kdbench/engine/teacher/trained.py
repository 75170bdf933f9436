"""What a method has trained on a teacher alone, on disk: for all students of that teacher, or for the run that goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import nn

from kdbench.errors import ModelError
from kdbench.models.weights.export import save_student
from kdbench.models.weights.read import read_weights, state_sha256

log = logging.getLogger(__name__)
#: subfolder of the caches' folder
FOLDER = "trained"


def read_trained(file: Path, modules: nn.Module, epochs: int) -> list[dict[str, Any]] | None:
    """Give modules the weights that were written; the lines of their epochs. None where there are none, or they are damaged, which
    is said in a warning.

    Args:
        file: where they lie.
        modules: whose names and shapes they must have.
        epochs: for which they were trained.
    """
    if not file.is_file():
        return None
    try:
        state, about = read_weights(file)
        lines = about.get("lines")
        whole = about.get("sha256") == state_sha256(state) and isinstance(lines, list) and len(lines) == epochs
        if whole:
            modules.load_state_dict(state)
            return lines
    except (ModelError, RuntimeError):
        pass
    log.warning("%s is damaged; it is trained anew", file)
    return None


def write_trained(file: Path, modules: nn.Module, lines: list[dict[str, Any]]) -> None:
    """Keep weights, and the lines of the epochs that made them; what cannot be written is said in a warning."""
    try:
        save_student(file, modules, {"sha256": state_sha256(modules.state_dict()), "lines": lines})
    except ModelError as error:
        log.warning("%s", error)
