"""All trackers of one run, none of which can end it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from yacs.config import CfgNode

from kdbench.engine.result import RunResult
from kdbench.engine.training.tracking.tracker import TrackedRun

log = logging.getLogger(__name__)


class Tracking:
    """Tells the trackers of a run what happens; one that raises is told nothing more.

    Args:
        trackers: objects with some of the methods of :class:`kdbench.Tracker`; in a process that writes no files, none.
        every: steps between two tellings of loss terms, ``LOG.TENSORBOARD_FREQ``.
    """

    def __init__(self, trackers: Sequence[object] = (), *, every: int = 500) -> None:
        self.every = every
        self._trackers = list(trackers)
        self._begun = self._ended = False
        self._find_hearers()

    def due(self, count: int) -> bool:
        """Whether loss terms are told after ``count`` steps."""
        return bool(self._hearers) and count % self.every == 0

    def start(self, cfg: CfgNode, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        """The run begins or goes on; told once, however often it is tried."""
        if self._trackers and not self._begun:
            self._tell("on_start", TrackedRun.of(cfg, folder, history))
        self._begun = True

    def terms(self, count: int, terms: Mapping[str, Tensor]) -> None:
        """Loss terms after ``count`` steps, read from the device."""
        self._tell("on_terms", count, {name: float(value) for name, value in terms.items()})

    def epoch(self, line: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """An epoch was evaluated."""
        if self._trackers:
            self._tell("on_epoch", dict(line), dict(timing))

    def end(self, outcome: RunResult | BaseException) -> None:
        """The run is done or failed; told once, and only of one that began."""
        if self._begun and not self._ended:
            self._tell("on_end", outcome)
        self._ended = True

    def _tell(self, method: str, *told: Any) -> None:
        for tracker in list(self._trackers):
            call = getattr(tracker, method, None)
            if call is None:
                continue
            try:
                call(*told)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a tracker, the run is worth more
                self._trackers.remove(tracker)
                self._find_hearers()
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                log.warning(
                    "tracker %s is off for the rest of the run (%s: %s)", type(tracker).__name__, method, reason
                )

    def _find_hearers(self) -> None:
        self._hearers = [tracker for tracker in self._trackers if callable(getattr(tracker, "on_terms", None))]
