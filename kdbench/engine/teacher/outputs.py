"""What a method is given of its teacher: one object with one method, whether the outputs are computed or stored.

    TeacherSource.outputs_of(method) -> TeacherOutputs;  outputs(batch) -> what the method asked for

``LiveOutputs`` asks the network. ``StoredOutputs`` reads the cache, and fills it from the live ones where it lacks a row.
``WholeNetwork`` hands over the network, for methods that run parts of it. Several students of one batch are given one answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from kdbench.distillers.base import Batch
from kdbench.engine.teacher.arrivals import Arrivals
from kdbench.engine.teacher.classifier import Classifier
from kdbench.engine.teacher.views import EpochViews
from kdbench.errors import DataError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput
from kdbench.transfer import send

#: kinds of outputs that the cache holds: a row a draw, and the classifier, which is the same for all
STORED = frozenset({"logits", "penultimate", "classifier"})
_TORCH = {"fp16": torch.float16, "fp32": torch.float32}


class TeacherOutputs(Protocol):
    """A teacher's outputs, batch by batch."""

    @property
    def cache_use(self) -> str:
        """What the epoch does with the cache: ``reads``, ``fills``, or nothing."""

    def __call__(self, batch: Batch) -> Any:
        """What the method asked for: a :class:`ModelOutput` without gradient, or the network."""

    def start(self, epoch: int, *, whole: bool = True) -> None:
        """An epoch begins; ``whole``: at its first step."""

    def end(self) -> None:
        """It has ended."""

    def leave(self) -> None:
        """It is given up before its end."""


class WholeNetwork:
    """The network itself.

    Args:
        network: gives it; called at the first batch, so that it is not built before.
    """

    cache_use = ""

    def __init__(self, network: Callable[[], FeatureModel]) -> None:
        self.network = network

    def __call__(self, batch: Batch) -> FeatureModel:
        return self.network()

    def start(self, epoch: int, *, whole: bool = True) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def leave(self) -> None:
        """Nothing."""


class LiveOutputs(WholeNetwork):
    """One forward pass a batch, without gradient.

    Args:
        network: gives the teacher.
        needs: kinds of outputs.
        autocast: makes the context of the pass.
        whole: outputs are float32 whatever the pass computes in, for a student of another precision.
    """

    def __init__(
        self,
        network: Callable[[], FeatureModel],
        needs: AbstractSet[str],
        autocast: Callable[[], Any],
        *,
        whole: bool = False,
    ) -> None:
        super().__init__(network)
        self.needs, self.autocast, self.whole = frozenset(needs), autocast, whole

    def __call__(self, batch: Batch) -> ModelOutput:  # type: ignore[override]
        with torch.no_grad(), self.autocast():
            output = self.network()(batch.images, need=self.needs)
            return output.map(Tensor.float) if self.whole else output


class StoredOutputs:
    """Outputs through the cache. The run that fills it learns from the values after their storage round trip, so that filling and
    reading runs are the same run.

    A GPU is not waited for: rows are looked up by the draws that the host knows, and what is to be stored is checked and written
    some steps later, when it has arrived in the host's memory. On a CPU both happen at once.

    Args:
        live: where a row that is not stored comes from.
        views: of the cache.
        view_of: the view that an epoch uses.
        device: where outputs are wanted.
        teacher: its name, for messages.
        classifier: the teacher's, where a method asks for it.
    """

    def __init__(
        self,
        live: LiveOutputs,
        views: EpochViews,
        view_of: Callable[[int], int],
        device: torch.device,
        teacher: str,
        classifier: Classifier | None = None,
    ) -> None:
        self.live, self.views, self.view_of, self.device, self.teacher = live, views, view_of, device, teacher
        self.classifier = classifier
        self._arrivals = Arrivals(device)
        #: what is wrong with outputs of this epoch: each of several students shall hear of it
        self._fault = ""

    @property
    def cache_use(self) -> str:
        """What the epoch does with the cache; see :class:`TeacherOutputs`."""
        return self.views.use

    def __call__(self, batch: Batch) -> ModelOutput:
        """Raises: DataError: outputs to store, of this batch or of one before it, are not finite or too large for the storage
        type."""
        if self._fault:
            raise DataError(self._fault)
        draw = batch.draw.cpu() if batch.host_draw is None else batch.host_draw
        rows = self.views.read(draw)
        if rows is not None:
            return self._unpacked(rows)
        output = self.live(batch)
        output.classifier = None  # it is no row, and never rounded
        stored = output.map(lambda value: value.to(_TORCH[self.views.layout.dtype]))
        # A captured pass writes its next outputs over these, so that what they were is found out now.
        sound = [] if self.device.type == "cpu" else [_all_finite(output)]
        kept = None if sound else output
        self._arrivals.add([stored.logits, stored.penultimate, *sound], functools.partial(self._store, draw, kept))
        return replace(stored.map(Tensor.float), classifier=self.classifier)

    def start(self, epoch: int, *, whole: bool = True) -> None:
        """Open the epoch's view for reading, or begin to write it; one of part of an epoch would have holes."""
        self._arrivals.forget()
        self._fault = ""
        self.views.start(self.view_of(epoch), write=whole)

    def end(self) -> None:
        """Publish the view that was written.

        Raises:
            DataError: outputs that were to be stored are unusable.
        """
        if self._fault:
            raise DataError(self._fault)
        self._arrivals.take_all()
        self.views.end()

    def leave(self) -> None:
        """Throw away what was written of the view."""
        self._arrivals.forget()
        self.views.leave()

    def _unpacked(self, rows: Tensor) -> ModelOutput:
        """Rows of the host's memory as outputs on the device."""
        return ModelOutput(*self.views.layout.unpack(send(rows, self.device).float()), classifier=self.classifier)

    def _store(self, draw: Tensor, output: ModelOutput | None, arrived: list[Tensor]) -> None:
        """Write what has arrived: logits, penultimate and, where ``output`` is not kept, whether it was finite."""
        logits, penultimate, *sound = arrived
        if not bool(torch.isfinite(logits).all() & torch.isfinite(penultimate).all()):
            self._fault = self._unusable(bool(sound[0] if output is None else _all_finite(output)))
            raise DataError(self._fault)
        self.views.write(draw, logits, penultimate)

    def _unusable(self, finite: bool) -> str:
        if finite:
            return "the teacher's outputs do not fit into 16 bits; set CACHE.DTYPE: fp32"
        return (
            f"teacher {self.teacher!r} gives NaN or infinite outputs on training images: are its weights damaged, or its "
            "TEACHER.NORM wrong? (SOLVER.PRECISION fp16 may overflow where bf16 does not)"
        )


class OutputsOfLooks:
    """Outputs for the images and for further looks at them, each computed or stored by itself.

    Args:
        images: gives those for the images.
        looks: by name, those for a look, which they are shown as a batch's images.
    """

    def __init__(self, images: TeacherOutputs, looks: Mapping[str, TeacherOutputs]) -> None:
        self.images, self.looks = images, looks

    @property
    def cache_use(self) -> str:
        """What the epoch does with the cache; where some of it is filled, it fills."""
        uses = {outputs.cache_use for outputs in self._every()}
        return "fills" if "fills" in uses else "reads" if uses == {"reads"} else ""

    def __call__(self, batch: Batch) -> ModelOutput:
        """The outputs, those for the looks in ``looks``."""
        looks = {name: outputs(replace(batch, images=batch.look(name))) for name, outputs in self.looks.items()}
        return replace(self.images(batch), looks=looks)

    def start(self, epoch: int, *, whole: bool = True) -> None:
        """An epoch begins."""
        for outputs in self._every():
            outputs.start(epoch, whole=whole)

    def end(self) -> None:
        """It has ended."""
        for outputs in self._every():
            outputs.end()

    def leave(self) -> None:
        """It is given up before its end."""
        for outputs in self._every():
            outputs.leave()

    def _every(self) -> list[TeacherOutputs]:
        return [self.images, *self.looks.values()]


def _all_finite(output: ModelOutput) -> Tensor:
    return torch.isfinite(output.logits).all() & torch.isfinite(output.penultimate).all()
