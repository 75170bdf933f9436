"""A run of Weights & Biases; ``WANDB_MODE=offline`` keeps it on the disk until ``wandb sync``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdbench.engine.result import RunResult
from kdbench.engine.training.tracking.tracker import TrackedRun, Tracker, plain_values, register_tracker
from kdbench.files import write_atomically

_LONGEST = 64  # letters of an id and of a tag that the service takes


@register_tracker("wandb")
class WandbRun(Tracker):
    """A run whose id is made of the folder's name, so that a run that goes on is the same one there. The epoch is the step; a note
    in the folder says how far it was told, so that no point is there twice and none is missing."""

    requires = "wandb"

    def on_start(self, run: TrackedRun) -> None:
        """Begin it there, or go on with it; tell what it has not heard."""
        import wandb

        (run.folder / "wandb").mkdir(exist_ok=True)
        self._note: Path = run.folder / "wandb" / "told.json"
        self._run: Any = wandb.init(
            id=run_id(run.name),
            name=run.name,
            project=run.project or None,
            group=run.group or None,
            tags=[tag[:_LONGEST] for tag in run.tags],
            config=dict(run.config),
            dir=str(run.folder),
            resume="allow",
            reinit="create_new",  # the students of a cohort each have their own
            settings=wandb.Settings(console="off"),
        )
        self._told = _last_told(self._note)
        for line in run.history:
            self.on_epoch(line, {})

    def on_epoch(self, line: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """A point of each curve."""
        epoch = line["epoch"]
        if epoch <= self._told:
            return
        times = {name: timing[name] for name in ("seconds", "images_per_second") if name in timing}
        self._run.log({"epoch": epoch, **plain_values(line), **times}, step=epoch)
        self._told = epoch
        write_atomically(self._note, json.dumps({"epoch": epoch}))

    def on_end(self, outcome: RunResult | BaseException) -> None:
        """Its result, or that it failed."""
        if isinstance(outcome, RunResult):
            values = {
                name: getattr(outcome, name) for name in ("top1_last", "top1_best", "best_epoch", "top1_selected")
            }
            self._run.summary.update({name: value for name, value in values.items() if value is not None})
        else:
            self._run.summary.update({"error": str(outcome)[:1000]})
        self._run.finish(exit_code=0 if isinstance(outcome, RunResult) else 1)


def run_id(name: str) -> str:
    """The id of a folder's run: its name in the letters that the service takes, of a long one the end, which is unique."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)[-_LONGEST:].lstrip("-")


def _last_told(note: Path) -> int:
    try:
        return int(json.loads(note.read_text(encoding="utf-8"))["epoch"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
