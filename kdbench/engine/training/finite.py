"""Numbers that are not finite: named with their cause, and never evaluated, saved or exported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor, nn

from kdbench.engine.evaluation import Score
from kdbench.errors import NonFiniteLossError
from kdbench.models.spec import ModelOutput

_ADVICE = "lower SOLVER.LR or the term's weight, or set SOLVER.CLIP_GRAD"


def loss_error(where: str, images: Tensor, output: ModelOutput | None, teacher: str) -> NonFiniteLossError:
    """The error of a step whose loss is not finite, with its cause: the images, the teacher, or the training itself.

    Args:
        where: which terms, and when.
        images: the step's batch.
        output: of the teacher for that batch, None without a teacher.
        teacher: its name.
    """
    if not bool(torch.isfinite(images).all()):
        return NonFiniteLossError(f"{where}: the images of that batch hold NaN or infinity; mend the data set")
    bad = [] if output is None else not_finite(output)
    if bad:
        return NonFiniteLossError(
            f"{where}: teacher {teacher!r} gives NaN or infinite {', '.join(bad)} for that batch; are its weights damaged, or "
            "its TEACHER.NORM wrong? (SOLVER.PRECISION fp16 may overflow where bf16 does not)"
        )
    return NonFiniteLossError(f"{where}; {_ADVICE}")


def not_finite(output: ModelOutput) -> list[str]:
    """Names of the parts of a network's output that hold NaN or infinity."""
    found = []
    for part in fields(output):
        value = getattr(output, part.name)
        tensors = () if value is None else (value,) if isinstance(value, Tensor) else value
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            found.append(part.name)
    return found


def check_state(modules: Mapping[str, nn.Module], epoch: int) -> None:
    """Refuse weights and running statistics that are not finite, before they are evaluated, saved or exported.

    Args:
        modules: by what they are.
        epoch: after which this is.

    Raises:
        NonFiniteLossError: some are not.
    """
    for what, module in modules.items():
        state = {key: value for key, value in module.state_dict().items() if value.is_floating_point()}
        if not state:
            continue
        bad = torch.stack([~torch.isfinite(value).all() for value in state.values()])
        if bool(bad.any()):
            name = next(key for key, wrong in zip(state, bad.tolist()) if wrong)
            raise NonFiniteLossError(
                f"after epoch {epoch} {name} of the {what} is not finite, though the loss was: a gradient or a running "
                "statistic overflowed; lower SOLVER.LR, or set SOLVER.CLIP_GRAD"
            )


def check_score(score: Score, what: str, advice: str = _ADVICE) -> None:
    """Refuse an accuracy of outputs that are not finite.

    Raises:
        NonFiniteLossError: they are not, since their cross entropy is not.
    """
    if not math.isfinite(score.loss):
        raise NonFiniteLossError(f"{what} are not finite, so that their accuracy means nothing; {advice}")
