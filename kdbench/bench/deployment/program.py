"""A file of ``torch.export``: the graph with its weights, read by PyTorch alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdbench.bench.deployment.student import Deployable, Student
from kdbench.errors import ModelError

#: file inside the .pt2 with the names of the classes, as JSON
ABOUT = "about.json"


def program_of(module: Deployable) -> torch.export.ExportedProgram:
    """The graph of a module, for batches of any number of images.

    Raises:
        ModelError: PyTorch cannot follow the network, or it takes no other batch than that of the example.
    """
    shapes = {"images": {0: torch.export.Dim("batch")}}
    try:
        # not strict: what Python does besides is run, in place of being analysed, so that more networks pass
        return torch.export.export(module, (module.example(2),), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # an exporter fails in any way
        name, reason = module.model.spec.name, " ".join(str(error).split())[:200]
        raise ModelError(f"torch.export cannot follow {name}: {reason or type(error).__name__}") from error


def write(student: Student, module: Deployable, file: Path) -> None:
    """Write the program, with :data:`ABOUT` beside it."""
    torch.export.save(program_of(module), file, extra_files={ABOUT: json.dumps(about(student))})


def opened(file: Path, threads: int) -> Callable[[Tensor], Tensor]:
    """The function of a file, from images to logits; it has the ``threads`` of PyTorch."""
    network = torch.export.load(file).module()

    def logits(images: Tensor) -> Tensor:
        found: Tensor = network(images)
        return found

    return logits


def about(student: Student) -> dict[str, Any]:
    """What a file says of itself."""
    kept: dict[str, Any] = {
        key: student.about[key] for key in ("name", "method", "dataset", "top1") if key in student.about
    }
    size = [3, student.side, student.side]
    return {**kept, "classes": student.classes, "input": "RGB in [0, 1]", "input_size": size}
