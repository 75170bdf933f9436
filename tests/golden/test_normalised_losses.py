"""NKD, SD-NKD, WSLD, USKD, SRD and DeiT's loss against values, terms and gradients of their originals, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from golden_tools import GoldenCase, cases

from kdbench.distillers.deit import deit_loss
from kdbench.distillers.nkd import nkd_loss
from kdbench.distillers.sdd_nkd import sdd_nkd_loss
from kdbench.distillers.srd import srd_loss
from kdbench.distillers.uskd import uskd_loss
from kdbench.distillers.wsld import wsld_loss

DIRECT = {
    "deit__*": deit_loss,
    "nkd__*": nkd_loss,
    "sdd_nkd__*": sdd_nkd_loss,
    "srd__*": srd_loss,
    "uskd__*": uskd_loss,
    "wsld__*": wsld_loss,
}
DIRECT_CASES = [(fn, path) for pattern, fn in DIRECT.items() for path in cases(pattern)]


@pytest.mark.parametrize(("fn", "path"), DIRECT_CASES, ids=lambda value: getattr(value, "stem", ""))
def test_loss_equals_its_original(fn: Any, path: Path) -> None:
    GoldenCase(path).check(fn)
