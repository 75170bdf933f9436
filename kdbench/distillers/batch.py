"""What a method is told, of the training set and of one batch, and what it may answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kdbench.distillers.parts.task_loss import TASK_LOSSES
from kdbench.errors import LossError, did_you_mean
from kdbench.random import CounterRNG


@dataclass(frozen=True)
class DataInfo:
    """What a method may know of the training set.

    Attributes:
        num_classes: K.
        num_samples: training images (before repetition); memory banks have that many rows.
        labels: (num_samples,) int64 training labels, for methods that draw negatives by class; may be None.
        batch: samples in the largest batch of a process; 0 = not known.
    """

    num_classes: int
    num_samples: int = 0
    labels: Tensor | None = None
    batch: int = 0


class _Numbers:
    """Samples of a loop that does not say which ones they are, counted."""

    def __init__(self) -> None:
        self.seen = 0

    def next(self, count: int) -> Tensor:
        """(count,) int64."""
        self.seen += count
        return torch.arange(self.seen - count, self.seen)


_numbered = _Numbers()


@dataclass
class Batch:
    """One training batch as a method sees it.

    Attributes:
        images: (B, 3, H, W) or (B, 1, H, W) float in [0, 1], augmented, not normalised.
        target: (B,) int64 labels, or (B, K) soft labels (mixup, cutmix).
        index: (B,) int64 position of each sample in the training set; None = not known, see :attr:`positions`.
        draw: (B,) int64 position of each sample in the epoch's virtual set (repeats count apart); keys random draws. None =
            ``index``; where that is not known either, samples are numbered in the order in which this process makes batches.
        epoch: counted from 1.
        progress: share of the training that is done, in [0, 1].
        seed: the run's seed.
        smoothing: label smoothing of the run's criterion; 0 where the soft labels hold it already.
        host_draw: ``draw`` in the host's memory, which is known before the step begins; None = ``draw`` lies there.
        looks: (B, 3, H, W) further looks at the same images, by name (:data:`kdbench.data.augmentation.looks.LOOKS`).
        clock: 0-d int64, ``epoch`` on the device; None = none is kept there.
        task_loss: the run's criterion, ``ce`` or ``bce`` (binary cross entropy of each class).
        bce_threshold: binary cross entropy makes targets above it 1 and the others 0; negative = off.

    A captured step is replayed with other tensors, not with other numbers of Python: one that reads ``epoch`` is captured anew in
    every epoch, and one that reads ``progress`` or ``host_draw`` is not captured at all. :meth:`generator` reads none of them.
    """

    images: Tensor
    target: Tensor
    index: Tensor | None = None
    draw: Tensor = None  # type: ignore[assignment]
    epoch: int = 1
    progress: float = 0.0
    seed: int = 0
    smoothing: float = 0.0
    host_draw: Tensor | None = None
    clock: Tensor | None = None
    looks: dict[str, Tensor] = field(default_factory=dict)
    task_loss: str = "ce"
    bce_threshold: float = -1.0

    def __post_init__(self) -> None:
        if self.task_loss not in TASK_LOSSES:
            near = did_you_mean(self.task_loss, TASK_LOSSES)
            raise LossError(f"Batch(task_loss={self.task_loss!r}){near}: expects {' or '.join(TASK_LOSSES)}")
        if self.draw is None and self.index is not None:
            self.draw = self.index
        elif self.draw is None:
            self.host_draw = _numbered.next(len(self.images))
            self.draw = self.host_draw.to(self.images.device)

    @property
    def positions(self) -> Tensor:
        """``index``, for a method that remembers something of each sample.

        Raises:
            LossError: it is not known.
        """
        if self.index is None:
            raise LossError(
                "the method remembers something of each training image: give Batch(..., index=positions in the training set)"
            )
        return self.index

    def look(self, name: str) -> Tensor:
        """A further look at the images.

        Raises:
            LossError: the batch has none of that name.
        """
        if name not in self.looks:
            raise LossError(
                f"the method sees each image more than once: give Batch(..., looks={{{name!r}: images}}), augmented for that look"
            )
        return self.looks[name]

    @property
    def labels(self) -> Tensor:
        """(B,) class index of each sample; the largest entry of a soft label."""
        return self.target if self.target.dim() == 1 else self.target.argmax(dim=1)

    def generator(self, name: str, *, host: bool = False) -> CounterRNG:
        """The random stream ``name`` of this batch: row ``b`` belongs to sample ``draw[b]``, whatever the batch is.

        Args:
            name: of the stream.
            host: draw in the host's memory, for choices of what is computed; the numbers are the same.
        """
        if host and self.draw.device.type != "cpu":
            if self.host_draw is None:
                raise LossError(f"the stream {name!r} is drawn by the host, which does not know this batch's draws")
            return CounterRNG(self.seed, f"method/{name}", self.epoch, self.host_draw)
        epoch = self.epoch if self.clock is None else self.clock
        return CounterRNG(self.seed, f"method/{name}", epoch, self.draw)


def run(network: Any, batch: Batch, need: AbstractSet[str], looks: Sequence[str] = ()) -> Any:
    """The outputs of a network for a batch's images and, in passes of their own, for further looks at them.

    Args:
        network: a FeatureModel.
        batch: the batch.
        need: kinds of outputs.
        looks: names of the looks.

    Returns:
        a ModelOutput.
    """
    output = network(batch.images, need=need)
    if not looks:
        return output
    return replace(output, looks={name: network(batch.look(name), need=need) for name in looks})


def joined(each: Sequence[Any]) -> Any:
    """The outputs of several teachers as one ModelOutput: the first one's, with the others' in ``others``."""
    first, *others = each
    return replace(first, others=tuple(others)) if others else first


def check_terms(method: str, terms: Any) -> None:
    """Refuse what a method's ``losses`` may not return; looks at shapes and types alone, never at values.

    Raises:
        LossError: it is no mapping of names to real numbers in tensors without dimensions.
    """
    expected = f"{method}.losses returns a mapping of names to loss terms, tensors without dimensions"
    if not isinstance(terms, Mapping) or not terms:
        raise LossError(f"{expected}, got {type(terms).__name__ if not isinstance(terms, Mapping) else 'an empty one'}")
    for name, term in terms.items():
        if not isinstance(name, str):
            raise LossError(f"{expected}; {name!r} is no name")
        if not isinstance(term, Tensor):
            raise LossError(f"{expected}; {name!r} is a {type(term).__name__}")
        if term.dim() or term.is_complex():
            raise LossError(
                f"{expected}; {name!r} has shape {tuple(term.shape)} and type {str(term.dtype).removeprefix('torch.')}"
            )
    if not any(term.requires_grad for term in terms.values()):
        raise LossError(
            f"{method}.losses: no term has a gradient, so that nothing would be learned (was one detached?)"
        )
