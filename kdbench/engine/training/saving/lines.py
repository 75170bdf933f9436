"""The lines of a run, one for each evaluation: scored, written, told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from kdbench.data.source import Split
from kdbench.engine.evaluation import Score, score
from kdbench.engine.parts import evaluation_options
from kdbench.engine.runtime import peak_rss_bytes
from kdbench.engine.training.finite import check_score

if TYPE_CHECKING:
    from kdbench.engine.training.trainer import Trainer

log = logging.getLogger(__name__)


def evaluated(trainer: Trainer, epoch: int, terms: dict[str, float]) -> dict[str, Any]:
    """Scores of the student after ``epoch``, as one line of ``metrics.jsonl``; no clock in it.

    Args:
        trainer: whose student.
        epoch: counted from 1.
        terms: mean of each loss term over the epoch.

    Raises:
        NonFiniteLossError: its outputs are NaN or infinite.
        RunStoppedError: the run was asked to stop.
    """

    def scores(split: Split) -> Score:
        return score(trainer.outcome, split, runtime=trainer.runtime, **evaluation_options(trainer.cfg, trainer.data))

    result = scores(trainer.data.test)
    check_score(result, f"the student's outputs for the test images after epoch {epoch}")
    line: dict[str, Any] = {"epoch": epoch, "top1": result.top1, "top5": result.top5, "test_loss": result.loss}
    if trainer.data.val is not None:
        val = scores(trainer.data.val)
        line |= {"val_top1": val.top1, "val_top5": val.top5}
    if trainer.before and not trainer.history:
        line["phases"] = trainer.before
    skipped = {"skipped": int(trainer.ledger.skipped)} if trainer.ledger.skipping else {}
    return line | {"lr": trainer.schedule.rate, "train": terms, **skipped}


def record(trainer: Trainer, line: dict[str, Any], timing: dict[str, Any]) -> None:
    """Add a line to the run's files, and tell it."""
    trainer.history.append(line)
    if not trainer.runtime.is_main:
        return
    timing |= peak_rss_bytes()
    if trainer.runtime.device.type == "cuda":
        timing["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(trainer.runtime.device)
    trainer.folder.append(trainer.folder.metrics, line)
    trainer.folder.append(trainer.folder.timing, timing)
    log.info("epoch %d: top-1 %.2f, top-5 %.2f", line["epoch"], line["top1"], line["top5"])
    trainer.tracking.epoch(line, timing)
