"""AB, FT, FSP and SSKD against values, terms and gradients of RepDistiller and the authors' releases, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from golden_tools import GoldenCase, cases

from kdbench.distillers.ab import ab_loss
from kdbench.distillers.fsp import fsp_loss
from kdbench.distillers.ft import ft_loss
from kdbench.distillers.sskd import sskd_loss

DIRECT = {"ab__*": ab_loss, "fsp__*": fsp_loss, "ft__*": ft_loss, "sskd__*": sskd_loss}
DIRECT_CASES = [(fn, path) for pattern, fn in DIRECT.items() for path in cases(pattern)]


@pytest.mark.parametrize(("fn", "path"), DIRECT_CASES, ids=lambda value: getattr(value, "stem", ""))
def test_loss_equals_its_original(fn: Any, path: Path) -> None:
    GoldenCase(path).check(fn)
