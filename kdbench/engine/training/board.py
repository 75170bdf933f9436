"""TensorBoard's event files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from yacs.config import CfgNode


class Board:
    """Writes scalars where ``LOG.TENSORBOARD`` asks for them, and nothing otherwise.

    Args:
        cfg: configuration.
        folder: of the event files.
        enabled: this process writes files.
    """

    def __init__(self, cfg: CfgNode, folder: Path, *, enabled: bool) -> None:
        self.every = cfg.LOG.TENSORBOARD_FREQ
        self._writer: Any = None
        if cfg.LOG.TENSORBOARD and enabled:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder))

    def due(self, count: int) -> bool:
        """Whether loss terms are written after ``count`` steps: every ``LOG.TENSORBOARD_FREQ``."""
        return self._writer is not None and count % self.every == 0

    def step(self, count: int, terms: Mapping[str, Tensor]) -> None:
        """Loss terms after ``count`` steps."""
        for name, value in terms.items():
            self._writer.add_scalar(f"train/{name}", float(value), count)

    def evaluation(self, line: Mapping[str, Any]) -> None:
        """A line of ``metrics.jsonl``."""
        if self._writer is not None:
            for name in ("top1", "top5", "test_loss", "lr"):
                self._writer.add_scalar(f"eval/{name}", line[name], line["epoch"])

    def close(self) -> None:
        """Finish the files."""
        if self._writer is not None:
            self._writer.close()
