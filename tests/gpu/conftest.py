"""Tests of this folder need a GPU."""

from __future__ import annotations

import pytest
from on_gpu import gpu_count


@pytest.fixture(autouse=True)
def _gpu():
    if not gpu_count():
        pytest.skip("no GPU is visible")
