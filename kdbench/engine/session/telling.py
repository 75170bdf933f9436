"""Who is told of each run of a process: the trackers of its configuration, and the caller's callbacks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from yacs.config import CfgNode

from kdbench.engine.result import RunResult
from kdbench.engine.training.tracking.choose import make_trackers
from kdbench.engine.training.tracking.several import Tracking
from kdbench.engine.training.tracking.tracker import check_callback
from kdbench.errors import ConfigError


class Telling:
    """The trackers of several runs, by their numbers; those of a run that is put off are kept until its turn comes.

    Args:
        cfgs: of the runs.
        callbacks: for each run its own; empty for none at all.

    Raises:
        ConfigError: another number of lists than of runs, or an object that no run can tell anything.
    """

    def __init__(self, cfgs: Sequence[CfgNode], callbacks: Sequence[Sequence[object]] = ()) -> None:
        if callbacks and (len(callbacks) != len(cfgs) or not all(isinstance(own, (list, tuple)) for own in callbacks)):
            raise ConfigError(f"callbacks=: expects for each of the {len(cfgs)} configurations a list of its own")
        for callback in (one for own in callbacks for one in own):
            check_callback(callback)
        self._cfgs, self._callbacks = cfgs, list(callbacks) or [()] * len(cfgs)
        self._made: dict[int, Tracking] = {}

    def of(self, number: int, *, main: bool) -> Tracking:
        """The trackers of a run.

        Args:
            number: of the run.
            main: this process writes files; another tells nobody.
        """
        if number not in self._made:
            cfg = self._cfgs[number]
            told = [*make_trackers(cfg), *self._callbacks[number]] if main else []
            self._made[number] = Tracking(told, every=cfg.LOG.TENSORBOARD_FREQ)
        return self._made[number]

    @contextlib.contextmanager
    def ended(self, outcomes: Mapping[int, RunResult | Exception]) -> Iterator[None]:
        """When the block has ended, each run's trackers are told its outcome; where it was left by an error, that."""
        try:
            yield
        except BaseException as error:
            for number, tracking in self._made.items():
                tracking.end(outcomes.get(number, error))
            raise
        for number, tracking in self._made.items():
            tracking.end(outcomes[number])
