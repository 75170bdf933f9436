"""Losses of several looks at an image against values, terms and gradients of their originals, in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_tools import GoldenCase, cases

from kdbench.distillers.mlkd import mlkd_loss


def test_the_vectors_are_here() -> None:
    standardized = ["mlkd__standardized_t2_k10", "mlkd__standardized_t2_k21"]
    assert sorted(path.stem for path in cases("mlkd__*")) == [*standardized, "mlkd__t1_k21", "mlkd__t4_k10"]


@pytest.mark.parametrize("path", cases("mlkd__*"), ids=lambda path: path.stem)
def test_loss_equals_its_original(path: Path) -> None:
    GoldenCase(path).check(mlkd_loss)
