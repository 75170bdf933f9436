"""A method's training step against its floor: student step plus teacher forward."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch

from kdbench.bench.speed.timing import interleave, milliseconds, ratio
from kdbench.config.load import load_config
from kdbench.data.augmentation.looks import LOOKS
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
    pair = _Pair(student, teacher, batch, size)
    vanilla = pair.step("Vanilla")

    def floor() -> None:
        with torch.no_grad():
            pair.teacher(pair.data.images)
        vanilla()

    candidates: dict[str, Callable[[], object]] = {"floor": floor, "student only": vanilla}
    return interleave(candidates | {name: pair.step(name) for name in methods}, rounds=rounds)


def measure_all(
    student: str, teacher: str, batch: int = 8, size: int = 224, rounds: int = 5, *, known: Collection[str] = ()
) -> dict[str, Any]:
    """Every method's step relative to KD's (median of interleaved rounds, each method alone with KD), but for those ``known``.

    Returns:
        ``{"measured": what and where, "x KD": {method: ratio}}`` without the methods that refuse the pair.
    """
    ratios: dict[str, float] = {}
    pair = _Pair(student, teacher, batch, size)
    kd = pair.step("KD")
    for name in (name for name in distillers.names() if name not in known):
        try:
            seconds = interleave({"KD": kd, name: kd if name == "KD" else pair.step(name)}, rounds=rounds)
        except IncompatibleError:
            continue
        ratios[name] = round(ratio(seconds, name, "KD"), 2)
    where = f"batch {batch}, {size}x{size}, float32, {torch.get_num_threads()} CPU threads"
    return {"measured": where, "x KD": ratios}


class _Pair:
    """A frozen teacher and one batch; :meth:`step` gives each method a student of its own."""

    def __init__(self, student: str, teacher: str, batch: int, size: int) -> None:
        self.student, self.size = student, size
        self.teacher = create_model(teacher, num_classes=100, input_size=size, seed=0).eval().requires_grad_(False)
        index = torch.arange(batch)
        images = torch.rand(batch, 3, size, size)
        self.data = Batch(images, torch.randint(0, 100, (batch,)), index, index, looks=dict.fromkeys(LOOKS, images))
        self.info = DataInfo(100, 50_000, torch.arange(50_000) % 100)

    def step(self, name: str) -> Callable[[], None]:
        """Forward, backward and SGD update by the method called ``name``."""
        model = create_model(self.student, num_classes=100, input_size=self.size, seed=0).train()
        cfg = load_config(overrides={"DISTILLER.TYPE": name})
        method = create_distiller(name, model, self.teacher, cfg, data=self.info)
        model = method.adapt(model, self.teacher).train()
        optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=1e-4, momentum=0.9)

        def step() -> None:
            outputs = method.taught(self.teacher, self.data)
            loss = torch.stack(list(method(model, outputs, self.data).values())).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return step
