"""What not running the teacher is worth: a step served by the cache, against a free teacher and against the live one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kdbench.bench.speed.timing import interleave, milliseconds, ratio
from kdbench.config.load import load_config
from kdbench.data.teacher_cache.cache import TeacherCache, ViewShape, ViewWriter
from kdbench.distillers.base import Batch
from kdbench.distillers.create import create_distiller
from kdbench.models.spec import ModelOutput
from kdbench.models.zoo import create_model

METHODS = ("KD", "DKD", "DIST", "OFA", "LDRLD", "HCD")
STUDENT = "timm:resnet18"
_CLASSES, _DRAWS = 100, 5000


def run(
    teachers: tuple[str, ...] = ("timm:swin_tiny_patch4_window7_224", "timm:vit_large_patch14_dinov2"),
    methods: tuple[str, ...] = METHODS,
    batch: int = 8,
    rounds: int = 7,
) -> list[dict[str, Any]]:
    """Rows ``teacher, method, cached ms, x free teacher, live / cached, bound`` for a ResNet18 student at 224.

    ``free`` hands constant tensors to the method; ``cached`` reads its rows from a memory map of 5,000 draws in fp16. The live
    teacher is timed with KD alone. ``bound`` is live / free, which no cache exceeds: how long the teacher's forward takes
    against a student's step is a matter of the two networks and of the machine.
    """
    rows = []
    for number, name in enumerate(teachers):
        teacher = create_model(name, num_classes=_CLASSES, input_size=224, seed=0).eval().requires_grad_(False)
        for method in methods if number == 0 else ("KD",):
            rows.append(_measure(name, teacher, method, batch, rounds))
    return rows


def _measure(name: str, teacher: Any, method: str, batch: int, rounds: int) -> dict[str, Any]:
    images, target = torch.rand(batch, 3, 224, 224), torch.randint(0, _CLASSES, (batch,))
    width = teacher.spec.penultimate
    with tempfile.TemporaryDirectory() as folder:
        layout = ViewShape(_DRAWS, _CLASSES, width, "fp16")
        cache = TeacherCache(Path(folder), "k", 10**12)
        cache.write_meta({})
        writer = ViewWriter(cache, 1, layout, "bench")
        writer.rows[:] = torch.randn(_DRAWS, layout.columns).half().numpy()
        writer.commit()
        view = cache.open(1, layout)
        assert view is not None
        constant = ModelOutput(torch.randn(batch, _CLASSES), torch.randn(batch, width))
        draws = torch.randperm(_DRAWS)[:batch]

        def free() -> ModelOutput:
            return constant

        def cached() -> ModelOutput:
            stored = torch.from_numpy(view[draws.numpy()]).float()
            return ModelOutput(*stored.split((_CLASSES, width), dim=1))

        def live() -> ModelOutput:
            with torch.no_grad():
                return teacher(images)

        step = _stepper(method, teacher, Batch(images, target, draws, draws))
        candidates: dict[str, Callable[[], object]] = {"free": lambda: step(free()), "cached": lambda: step(cached())}
        if method == "KD":
            candidates["live"] = lambda: step(live())
        seconds = interleave(candidates, rounds=rounds)
    row = {"teacher": name, "method": method, "cached ms": round(milliseconds(seconds, "cached"), 1)}
    row["x free teacher"] = round(ratio(seconds, "cached", "free"), 3)
    for column, base in (("live / cached", "cached"), ("bound", "free")):
        row[column] = round(ratio(seconds, "live", base), 2) if "live" in seconds else ""
    return row


def _stepper(method: str, teacher: Any, batch: Batch) -> Callable[[ModelOutput], None]:
    student = create_model(STUDENT, num_classes=_CLASSES, seed=0).train()
    distiller = create_distiller(method, student, teacher.spec, load_config(overrides={"DISTILLER.TYPE": method}))
    optimizer = torch.optim.SGD([*student.parameters(), *distiller.parameters()], lr=1e-4, momentum=0.9)

    def step(outputs: ModelOutput) -> None:
        loss = torch.stack(list(distiller(student, outputs, batch).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
