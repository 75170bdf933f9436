"""What a method is given of its teacher: one object with one method, whether the outputs are computed, stored or shared.

    TeacherSource.outputs_of(method) -> TeacherOutputs;  outputs(batch) -> what the method asked for

``LiveOutputs`` asks the network. ``StoredOutputs`` reads the cache, and fills it from the live ones where it lacks a row.
``WholeNetwork`` hands over the network, for methods that run parts of it. ``SharedOutputs`` answers several students of one batch
with one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import torch
from torch import Tensor

from kdbench.distillers.base import Batch
from kdbench.engine.teacher.views import EpochViews
from kdbench.errors import DataError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput

#: kinds of outputs that the cache holds
STORED = frozenset({"logits", "penultimate"})
_TORCH = {"fp16": torch.float16, "fp32": torch.float32}


class TeacherOutputs(Protocol):
    """A teacher's outputs, batch by batch."""

    def __call__(self, batch: Batch) -> Any:
        """What the method asked for: a :class:`ModelOutput` without gradient, or the network."""

    def start(self, epoch: int) -> None:
        """An epoch begins."""

    def end(self) -> None:
        """It has ended."""


class WholeNetwork:
    """The network itself.

    Args:
        network: gives it; called at the first batch, so that it is not built before.
    """

    def __init__(self, network: Callable[[], FeatureModel]) -> None:
        self.network = network

    def __call__(self, batch: Batch) -> FeatureModel:
        return self.network()

    def start(self, epoch: int) -> None:
        """Nothing."""

    def end(self) -> None:
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

    Args:
        live: where a row that is not stored comes from.
        views: of the cache.
        view_of: the view that an epoch uses.
        device: where outputs are wanted.
        teacher: its name, for messages.
    """

    def __init__(
        self,
        live: LiveOutputs,
        views: EpochViews,
        view_of: Callable[[int], int],
        device: torch.device,
        teacher: str,
    ) -> None:
        self.live, self.views, self.view_of, self.device, self.teacher = live, views, view_of, device, teacher

    def __call__(self, batch: Batch) -> ModelOutput:
        """Raises: DataError: outputs to store are not finite, or too large for the storage type."""
        layout = self.views.layout
        rows = self.views.read(batch.draw)
        if rows is not None:
            return ModelOutput(*layout.unpack(rows.to(self.device).float()))
        output = self.live(batch)
        stored = output.map(lambda value: value.to(_TORCH[layout.dtype]))
        if not _finite(stored):
            raise self._unusable(output)
        self.views.write(batch.draw, stored.logits, stored.penultimate)
        return stored.map(Tensor.float)

    def start(self, epoch: int) -> None:
        """Open the epoch's view for reading, or begin to write it."""
        self.views.start(self.view_of(epoch))

    def end(self) -> None:
        """Publish the view that was written."""
        self.views.end()

    def _unusable(self, output: ModelOutput) -> DataError:
        if _finite(output):
            return DataError("the teacher's outputs do not fit into 16 bits; set CACHE.DTYPE: fp32")
        return DataError(
            f"teacher {self.teacher!r} gives NaN or infinite outputs on training images: are its weights damaged, or its "
            "TEACHER.NORM wrong? (SOLVER.PRECISION fp16 may overflow where bf16 does not)"
        )


class SharedOutputs:
    """One teacher for several students that see the same batches: a batch is asked for once, with all that any of them needs.

    Args:
        outputs: of the union of their needs. The first student that starts an epoch, and the last that ends it, do so for all.
    """

    def __init__(self, outputs: TeacherOutputs) -> None:
        self.outputs = outputs
        self._batch: Batch | None = None
        self._output: Any = None
        self._inside = 0

    def __call__(self, batch: Batch) -> Any:
        if batch is not self._batch:
            self._batch, self._output = batch, self.outputs(batch)
        return self._output

    def start(self, epoch: int) -> None:
        """An epoch begins for one student."""
        if self._inside == 0:
            self.outputs.start(epoch)
        self._inside += 1

    def end(self) -> None:
        """It has ended for one student."""
        self._inside -= 1
        if self._inside == 0:
            self._batch = self._output = None
            self.outputs.end()


def _finite(output: ModelOutput) -> bool:
    return bool(torch.isfinite(output.logits).all() & torch.isfinite(output.penultimate).all())
