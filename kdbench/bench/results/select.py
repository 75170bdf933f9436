"""Which of a run's accuracies a table shows: of the last epoch, or of the best one by test or by validation accuracy."""

from __future__ import annotations

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
