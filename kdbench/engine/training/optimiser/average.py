"""A moving average of the student's weights, which is evaluated and exported in their place."""

from __future__ import annotations

import logging

from timm.utils import ModelEmaV3

from kdbench.models.feature_model.model import FeatureModel

log = logging.getLogger(__name__)


class WeightAverage:
    """timm's moving average with its warm-up: at step t the decay is ``min(decay, 1 - (1 + t) ** (-2/3))``, so that a short run's
    average is one of its own weights and not of its initial ones.

    Args:
        student: whose weights are averaged.
        decay: ``SOLVER.EMA``.
        steps: of the whole run.
    """

    def __init__(self, student: FeatureModel, decay: float, steps: int) -> None:
        self._average = ModelEmaV3(student, decay=decay, use_warmup=True)
        horizon = 1.0 / (1.0 - decay)
        if horizon > steps:
            log.warning(
                "SOLVER.EMA %g averages over %.0f steps, more than the run's %d: its warm-up holds the decay at %.4f or less here",
                *(decay, horizon, steps, self._average.get_decay(steps)),
            )

    @property
    def network(self) -> FeatureModel:
        """The network of averaged weights."""
        return self._average.module

    def update(self, student: FeatureModel, step: int) -> None:
        """Take in the weights after step ``step`` of the run (from 0)."""
        # timm counts updates, the first of which copies
        self._average.update(student, step=step + 1)
