"""What a checkpoint holds of a student in training, between epochs and within one; saved, and put back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdbench.engine.training.optimiser.optim import load_optimizer_state, optimizer_state
from kdbench.engine.training.saving.checkpoint import load_checkpoint, save_checkpoint
from kdbench.errors import KdbenchError
from kdbench.files import file_size

if TYPE_CHECKING:
    from kdbench.engine.training.trainer import Trainer

log = logging.getLogger(__name__)
Timing = Mapping[str, Any]


def save(trainer: Trainer, epoch: int, step: int = 0, timing: Timing | None = None) -> None:
    """Write the checkpoint; the teacher is never in it.

    Args:
        trainer: whose.
        epoch: the last one that is finished; 0 and less of a first phase.
        step: steps that were taken of the next one.
        timing: ``seconds`` and ``data_seconds`` of those.
    """
    runtime, folder = trainer.runtime, trainer.folder
    within: dict[str, Any] = {}
    if step:
        # every process adds up loss terms of its own images
        each = runtime.gathered({"ledger": trainer.ledger.state(), "images": trainer.images})
        within = {"step": step, "within": each, "timing": dict(timing or {})}
    if runtime.is_main:
        state = {
            "epoch": epoch,
            **{name: part.state_dict() for name, part in _parts(trainer).items()},
            "optimizer": optimizer_state(trainer.optimizer),
            "history": trainer.history,
            "metrics_bytes": file_size(folder.metrics),
            "timing_bytes": file_size(folder.timing),
            "skipped": int(trainer.ledger.skipped),
            **({"phases": trainer.before, "phase_seconds": trainer.before_seconds} if trainer.before else {}),
            **within,
        }
        save_checkpoint(folder.checkpoint, state)
    runtime.barrier()


def resume(trainer: Trainer) -> None:
    """Go on from the folder's checkpoint, if there is one: cut what was logged after it.

    Raises:
        KdbenchError: a whole checkpoint is of another run.
    """
    folder, runtime = trainer.folder, trainer.runtime
    state = load_checkpoint(folder.checkpoint)
    if state is None:
        for file in (folder.metrics, folder.timing):
            folder.truncate(file, 0)
        return
    trainer.shift(state["epoch"] + 1)
    try:
        for name, part in _parts(trainer).items():
            part.load_state_dict(state[name])
        load_optimizer_state(trainer.optimizer, state["optimizer"])
        trainer.ledger.skipped.fill_(state.get("skipped", 0))
        trainer.first_step = state.get("step", 0)
        if trainer.first_step:
            own = state["within"][runtime.rank]
            trainer.begun = {"images": own["images"], "ledger": own["ledger"], "timing": state["timing"]}
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise KdbenchError(
            f"{folder.checkpoint} does not fit this run ({reason}); delete it to start the run afresh"
        ) from None
    trainer.before, trainer.before_seconds = state.get("phases", []), state.get("phase_seconds", 0.0)
    trainer.history, trainer.first_epoch = state["history"], state["epoch"] + 1
    if runtime.is_main:
        folder.rewrite(folder.metrics, trainer.history)  # whatever became of the file
        folder.truncate(folder.timing, state["timing_bytes"])
    where = f"epoch {state['epoch']}"
    if trainer.first_step:
        where = f"step {trainer.first_step} of {len(trainer.loader)} of epoch {trainer.first_epoch}"
    log.info("resuming %s after %s", folder.path.name, where)


def _parts(trainer: Trainer) -> dict[str, Any]:
    """What a checkpoint holds beside the optimiser, by name."""
    average = {} if trainer.average is None else {"average": trainer.average.network.backbone}
    best = {} if trainer.best is None else {"best": trainer.best}
    return {
        "student": trainer.student.backbone,
        "distiller": trainer.distiller,
        "scaler": trainer.step.scaler,
        **average,
        **best,
    }
