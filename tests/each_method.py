"""Tests of every method: of each kind of state and need one in the usual suite, the others among the slow ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from kdbench import list_distillers
from kdbench.distillers.create import method_classes

#: the student alone; logits; a memory bank; draws; a schedule; features, relations, stages; a network that is run in
#: parts; a method's own modules, variances and branches; a second head; a changed student; attention over the batch; a phase before
#: the first epoch, on the teacher alone and on the student
KINDS = {
    *("VANILLA", "KD", "CRD", "TEKAP_F", "CTKD", "CC", "AT", "REVIEWKD", "OFD", "FCFD", "HCD"),
    *("VID", "OFA", "DEIT", "SIMKD", "SEMCKD", "FT", "AB"),
}


def short(method: str) -> dict[str, int]:
    """Settings with which the phases before a method's first epoch have one epoch."""
    return {f"{cls.name.upper()}.INIT_EPOCHS": 1 for cls in method_classes(method) if "INIT_EPOCHS" in cls.defaults}


def each_method(names: Iterable[str] = (), kinds: Collection[str] = frozenset(KINDS)) -> list[Any]:
    """Parameters of a test of every method that takes a second or more for each.

    Args:
        names: of methods; all by default.
        kinds: names in capitals of those that are not slow.
    """
    chosen = list(names) or list_distillers()
    return [name if name.upper() in kinds else pytest.param(name, marks=pytest.mark.slow) for name in chosen]
