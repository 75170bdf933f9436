"""TensorBoard's event files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdbench.engine.training.tracking.tracker import TrackedRun, Tracker, register_tracker

_SHOWN = ("top1", "top5", "test_loss", "val_top1", "val_top5", "lr")


@register_tracker("tensorboard")
class TensorboardEvents(Tracker):
    """Scalars in ``tensorboard/`` in the run's folder: ``eval/*`` by epoch, ``train/*`` (single steps) by step. Of a run that goes
    on, what earlier files hold is not written again, and what they lost is."""

    requires = "tensorboard"

    def on_start(self, run: TrackedRun) -> None:
        """Open a file, and fill in what earlier ones lack."""
        from torch.utils.tensorboard import SummaryWriter

        place = run.folder / "tensorboard"
        self._known = _written(place)
        self._writer: Any = SummaryWriter(str(place))
        for line in run.history:
            self.on_epoch(line, {})

    def on_terms(self, step: int, terms: Mapping[str, float]) -> None:
        """Loss terms of a step."""
        for name, value in terms.items():
            self._add(f"train/{name}", value, step)

    def on_epoch(self, line: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """An epoch's scores."""
        for name in _SHOWN:
            if name in line:
                self._add(f"eval/{name}", line[name], line["epoch"])

    def on_end(self, outcome: object) -> None:
        """Finish the file."""
        self._writer.close()

    def _add(self, tag: str, value: float, step: int) -> None:
        if step not in self._known.get(tag, ()):
            self._writer.add_scalar(tag, value, step)


def _written(place: Path) -> dict[str, set[int]]:
    """Steps by tag that event files hold already; what is damaged of them is left out."""
    if not place.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(place), size_guidance={"scalars": 0}).Reload()
    return {tag: {event.step for event in found.Scalars(tag)} for tag in found.Tags()["scalars"]}
