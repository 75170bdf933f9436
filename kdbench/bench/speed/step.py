"""A method's training step against its floor: student step plus teacher forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kdbench.bench.speed.timing import interleave, milliseconds, ratio
from kdbench.config import load_config
from kdbench.distillers.base import Batch, DataInfo, distillers
from kdbench.distillers.create import create_distiller
from kdbench.errors import IncompatibleError
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
    seconds = time_steps(student, teacher, batch, size, rounds, methods)
    return [
        {"step": name, "ms": round(milliseconds(seconds, name), 1), "x floor": round(ratio(seconds, name, "floor"), 3)}
        for name in seconds
    ]


def time_steps(
    student: str, teacher: str, batch: int, size: int, rounds: int, methods: tuple[str, ...]
) -> dict[str, list[float]]:
    """Seconds per step of the floor, of the student alone and of each method."""
    images, target = torch.rand(batch, 3, size, size), torch.randint(0, 100, (batch,))
    index = torch.arange(batch)
    info = DataInfo(100, 50_000, torch.arange(50_000) % 100)
    data = Batch(images, target, index, index)
    t_model = create_model(teacher, num_classes=100, seed=0).eval().requires_grad_(False)

    def maker(name: str) -> Callable[[], object]:
        model = create_model(student, num_classes=100, seed=0).train()
        method = create_distiller(name, model, t_model, load_config(overrides={"DISTILLER.TYPE": name}), data=info)
        optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=1e-4, momentum=0.9)

        def step() -> None:
            outputs: Any = t_model if method.needs_networks else None
            if method.uses_teacher and not method.needs_networks:
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
    return interleave(candidates, rounds=rounds)


def measure_all(
    student: str = "timm:resnet18", teacher: str = "timm:resnet34", batch: int = 8, size: int = 96
) -> dict[str, Any]:
    """Every method's step relative to KD's (median of interleaved rounds); methods that refuse the pair are left out."""
    ratios: dict[str, float] = {}
    for name in distillers.names():
        methods = tuple(dict.fromkeys(("KD", name)))
        try:
            seconds = time_steps(student, teacher, batch, size, 5, methods)
        except IncompatibleError:
            continue
        ratios[name] = round(ratio(seconds, name, "KD"), 2)
    where = f"{teacher} -> {student}, batch {batch}, {size}x{size}, float32, {torch.get_num_threads()} CPU threads"
    return {"measured": where, "x KD": ratios}
