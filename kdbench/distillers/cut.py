"""A batch cut into parts, one after the other for gradient accumulation; and whether a method's loss allows it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from kdbench.distillers.base import Batch, Distiller
from kdbench.models.spec import ModelOutput


def why_whole(distiller: Distiller) -> str:
    """Why the method's loss for a batch is not the mean of its losses for the batch's parts; empty where it is."""
    if distiller.batch_coupled:
        return (
            "its loss compares the samples of a batch with each other, or changes what the next batch is compared with"
        )
    for name, module in distiller.named_modules():
        if isinstance(module, _BatchNorm):
            return f"its module {name} normalises over the batch"
    return ""


def cut(batch: Batch, teacher: Any, parts: int) -> Iterator[tuple[Batch, Any, float]]:
    """The parts of a batch in order, as even as can be, of at least one sample: (part, its rows of the teacher's outputs, its share
    of the samples). Nothing is copied.

    Args:
        batch: the whole.
        teacher: what the method is given of the teacher for the whole: outputs are cut, anything else stays as it is.
        parts: how many; no more than there are samples.
    """
    size = len(batch.images)
    parts = min(parts, size)
    bounds = [size * number // parts for number in range(parts + 1)]
    for first, last in itertools.pairwise(bounds):
        rows = slice(first, last)

        def part(values: Tensor | None, rows: slice = rows) -> Any:
            return None if values is None else values[rows]

        names = ("images", "target", "index", "draw", "host_draw")
        piece = replace(
            batch,
            **{name: part(getattr(batch, name)) for name in names},
            looks={name: part(images) for name, images in batch.looks.items()},
        )
        given = _rows(teacher, part) if isinstance(teacher, ModelOutput) else teacher
        yield piece, given, (last - first) / size


def _rows(output: ModelOutput, part: Callable[[Tensor], Tensor]) -> ModelOutput:
    """Rows of outputs; weights of a network have no row a sample."""
    looks = None if output.looks is None else {name: _rows(look, part) for name, look in output.looks.items()}
    others = None if output.others is None else tuple(_rows(other, part) for other in output.others)
    made = replace(output, looks=None, others=None).map(part)
    return replace(made, bn_affine=output.bn_affine, classifier=output.classifier, looks=looks, others=others)
