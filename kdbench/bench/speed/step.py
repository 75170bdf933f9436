"""A method's training step against its floor: student step plus teacher forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kdbench.bench.speed.timing import interleave, milliseconds, ratio
from kdbench.config import load_config
from kdbench.distillers.base import Batch
from kdbench.distillers.create import create_distiller
from kdbench.models.zoo import create_model

METHODS = ("KD", "DKD", "DIST", "LDRLD", "OFA", "HCD")


def run(
    student: str = "timm:resnet18",
    teacher: str = "timm:swin_tiny_patch4_window7_224",
    batch: int = 8,
    size: int = 224,
    rounds: int = 9,
    methods: tuple[str, ...] = METHODS,
) -> list[dict[str, Any]]:
    """Rows ``method, ms, x floor``: forward, backward and SGD update, everything in one process, interleaved.

    The floor is the student's step with cross entropy plus the teacher's forward pass under ``no_grad``.
    """
    images, target = torch.rand(batch, 3, size, size), torch.randint(0, 100, (batch,))
    index = torch.arange(batch)
    data = Batch(images, target, index, index)
    t_model = create_model(teacher, num_classes=100, seed=0).eval().requires_grad_(False)

    def maker(name: str) -> Callable[[], object]:
        model = create_model(student, num_classes=100, seed=0).train()
        method = create_distiller(name, model, t_model, load_config(overrides={"DISTILLER.TYPE": name}))
        optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=1e-4, momentum=0.9)

        def step() -> None:
            outputs = None
            if name != "Vanilla":
                with torch.no_grad():
                    outputs = t_model(images, need=method.teacher_needs)
            loss = torch.stack(list(method(model, outputs, data).values())).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return step

    vanilla = maker("Vanilla")

    def floor() -> None:
        with torch.no_grad():
            t_model(images)
        vanilla()

    candidates: dict[str, Callable[[], object]] = {
        "floor": floor,
        "student only": vanilla,
        **{name: maker(name) for name in methods},
    }
    seconds = interleave(candidates, rounds=rounds)
    return [
        {"step": name, "ms": round(milliseconds(seconds, name), 1), "x floor": round(ratio(seconds, name, "floor"), 3)}
        for name in seconds
    ]
