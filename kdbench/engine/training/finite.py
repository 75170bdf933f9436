"""Numbers that are not finite: noticed on the device, named with their cause, and never exported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor, nn

from kdbench.engine.evaluation import Score
from kdbench.errors import NonFiniteLossError
from kdbench.models.spec import ModelOutput

#: steps between looks at a GPU's verdict: each look waits for the device
_INTERVAL = 50
_ADVICE = "lower SOLVER.LR or the term's weight, or set SOLVER.CLIP_GRAD"


class FiniteWatch:
    """Remembers the first step of an epoch whose loss was not finite, on the device; the host looks at every step on a CPU, and now
    and then on a GPU.

    Args:
        device: where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self.interval = 1 if device.type == "cpu" else _INTERVAL
        self.device = device
        self.start()

    def start(self) -> None:
        """Begin an epoch."""
        self._first = torch.full((), -1, dtype=torch.int64, device=self.device)
        self._bad: Tensor | None = None
        self._names: list[str] = []

    def see(self, step: int, terms: Mapping[str, Tensor], loss: Tensor) -> None:
        """Judge one step's terms and their sum; nothing is read by the host."""
        values = torch.stack([value.detach().double() for value in (*terms.values(), loss)])
        bad = ~torch.isfinite(values)
        now = bad.any() & (self._first < 0)
        self._first = torch.where(now, step, self._first)
        self._bad = torch.where(now, bad, torch.zeros_like(bad) if self._bad is None else self._bad)
        self._names = [*terms, "their sum"]

    def due(self, step: int) -> bool:
        """Whether to look after this step."""
        return (step + 1) % self.interval == 0

    def found(self) -> tuple[int, list[str]] | None:
        """The first step (from 0) with a value that is not finite and the names of its terms, or None; waits for the device."""
        first = int(self._first)
        if first < 0 or self._bad is None:
            return None
        terms = [name for name, bad in zip(self._names, self._bad.tolist()) if bad]
        return first, terms[:-1] or terms


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
            "its TEACHER.NORM wrong? (SOLVER.AMP fp16 may overflow where bf16 does not)"
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
