"""Which of a run's accuracies a table shows: of the last epoch, or of the best one by test or by validation accuracy."""

from __future__ import annotations

import pandas as pd

from kdbench.errors import KdbenchError, did_you_mean

#: column of the accuracy by the rule's name
SELECT = {"last": "top1_last", "best": "top1_best", "selected": "top1_selected"}
_TEXTS = {
    "last": "at the last epoch",
    "best": "at the best epoch by test accuracy (optimistic)",
    "selected": "at the best epoch by validation accuracy",
}


def check_select(select: str) -> None:
    """Refuse a selection rule that does not exist.

    Raises:
        KdbenchError: it does not, or several are named.
    """
    if "," in select or "+" in select:
        raise KdbenchError(
            f"--select {select!r}: two selection rules are never mixed in one table; render one for each"
        )
    if select not in SELECT:
        raise KdbenchError(f"--select {select!r} is none of {', '.join(SELECT)}{did_you_mean(select, SELECT)}")


def rule_text(select: str) -> str:
    """The rule in words, as captions say it: ``at the last epoch``."""
    return _TEXTS[select]


def selection_remarks(runs: pd.DataFrame, select: str) -> list[str]:
    """What a caption says of runs that a validation part has decided over: that some stopped early, and that what some left is the
    student of another epoch than the table shows.

    Args:
        runs: with the columns of :func:`kdbench.bench.results.frames.run_frame`.
        select: the table's rule.
    """
    lines = []
    stopped = runs[runs.stopped.notna() & (runs.stopped != "")]
    if len(stopped):
        first, last = int(stopped.epochs.min()), int(stopped.epochs.max())
        when = f"epoch {first}" if first == last else f"epochs {first} to {last}"
        lines.append(
            f"{_runs(len(stopped))} stopped early, after {when} (SOLVER.PATIENCE); that epoch is the last one."
        )
    kept = runs[runs.kept_epoch.notna() & (runs.kept_epoch != runs.epochs)]
    if len(kept) and select != "selected":
        lines.append(
            f"{_runs(len(kept))} left the student of the best epoch by validation accuracy (SOLVER.KEEP), which --select "
            "selected shows."
        )
    return lines


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count > 1)}"
