"""One run's use of the teacher cache: in each epoch it reads a view, writes one, or does neither, all processes alike."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdbench.data.teacher_cache.cache import TeacherCache, ViewShape, ViewWriter
from kdbench.engine.runtime import Runtime

log = logging.getLogger(__name__)


class EpochViews:
    """The views of a cache, epoch by epoch.

    A disk answers each process for itself: another run may publish or evict a view between two looks, and only the main
    process learns that a folder cannot be written. What is done about it involves waiting for each other, so every
    decision is taken by all processes together.

    Args:
        cache: of the run's key.
        layout: of its views.
        owner: name of the run.
        runtime: the processes.
        rows_of: of a view, the row of each draw; None = a draw is the number of its row.
    """

    def __init__(
        self,
        cache: TeacherCache,
        layout: ViewShape,
        owner: str,
        runtime: Runtime,
        rows_of: Callable[[int], Tensor | None] = lambda view: None,
    ) -> None:
        self.cache, self.layout, self.owner, self.runtime, self.rows_of = cache, layout, owner, runtime, rows_of
        self._row_of: Tensor | None = None
        self._rows: np.ndarray | None = None
        self._writer: ViewWriter | None = None
        #: what is done in the epoch: ``reads``, ``fills``, or neither
        self.use = ""

    def prepare(self, meta: dict[str, Any]) -> None:
        """Record what the cache is, where that is not recorded yet."""
        if self.runtime.is_main:
            self.cache.write_meta(meta)
        self._agree()

    def start(self, view: int, *, write: bool = True) -> None:
        """Open a view for reading, or begin to write it, if it is to be written."""
        self._rows = self.cache.open(view, self.layout)
        if not self.runtime.all(self._rows is not None):
            self._rows = None
            if write and self.cache.writable:
                self._begin(view)
        self.use = "reads" if self._rows is not None else "fills" if self._writer is not None else ""
        self._row_of = self.rows_of(view) if self.use else None

    def read(self, draw: Tensor) -> Tensor | None:
        """(B, classes + width) rows of (B,) draws in the host's memory; None where the view is not read, or lacks some of them."""
        if self._rows is None:
            return None
        rows = torch.from_numpy(self._rows[self._placed(draw).numpy()])
        # Rows that the filling run never drew (its last batch was dropped) are NaN; those are asked of the network.
        return None if bool(rows.isnan().any()) else rows

    def write(self, draw: Tensor, logits: Tensor, penultimate: Tensor) -> None:
        """Store rows, if the view is being written: (B,), (B, classes) and (B, width) of the layout's type, all in the host's
        memory."""
        if self._writer is not None:
            self._guard(functools.partial(self._writer.write, self._placed(draw), logits, penultimate))

    def end(self) -> None:
        """Publish the view that was written. One to which a process could not write has holes and is thrown away."""
        self._rows = None
        if self._writer is not None:
            self._guard(self._writer.close)
        whole = self.runtime.all(self._writer is not None)
        if self._writer is not None and self.runtime.is_main:
            if whole:
                self._guard(self._writer.commit)
            else:
                self._writer.discard()
        self._writer = None
        self._agree()

    def leave(self) -> None:
        """Throw away what was written, in the middle of an epoch, without asking the other processes."""
        self._rows = None
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def _placed(self, draw: Tensor) -> Tensor:
        """(B,) rows of (B,) draws."""
        return draw if self._row_of is None else self._row_of[draw]

    def _begin(self, view: int) -> None:
        make = functools.partial(ViewWriter, self.cache, view, self.layout, self.owner, create=self.runtime.is_main)
        if self.runtime.is_main:
            if self.cache.make_room(self.layout.view_bytes):
                self._writer = self._guard(make)
            else:
                log.info(
                    "CACHE.MAX_GB (%g) is used up; this run computes the teacher's outputs instead of storing them",
                    self.cache.max_bytes / 1e9,
                )
                self.cache.writable = False
        self._agree()
        if self.cache.writable and not self.runtime.is_main:  # the main process made the file, the others open it
            self._writer = self._guard(make)

    def _agree(self) -> None:
        self.cache.writable = self.runtime.all(self.cache.writable)

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            self.cache.give_up(error)
            if self._writer is not None:
                self._writer.discard()
                self._writer = None
            return None
