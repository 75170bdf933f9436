"""On a real GPU: the checks of ``tools/gpu.py`` find what the other tests of this folder find."""

from __future__ import annotations

import pytest
from on_gpu import python_on_gpu

pytestmark = pytest.mark.gpu

_CONDUCT = """
from kdbench.bench.speed.gpu.conduct import conduct
from kdbench.bench.speed.gpu.settings import settings_for
settings = settings_for("cuda", tuple(sys.argv[3:]))
say(conduct(settings, pathlib.Path(sys.argv[1]), minutes=30, only=sys.argv[2].split(","))["parts"])
"""


def test_checks(tmp_path):
    parts = python_on_gpu(_CONDUCT, str(tmp_path), "environment,methods,determinism,ddp", "KD", "CRD", "HCD")
    assert parts["environment"]["gpu"]
    for row in parts["methods"]["rows"]:
        assert row["replayed"] > 0, row
        assert row["equal"], row
        assert row["agrees"], row
    assert all(row["twice"] and row["resumed"] for row in parts["determinism"]["rows"])
    assert parts["ddp"]["backend"] == "nccl"
    assert all(row["twice"] and row["plain"] for row in parts["ddp"]["rows"])


def test_a_profile_sees_graphs(tmp_path):
    parts = python_on_gpu(_CONDUCT, str(tmp_path), "profile")
    rows = {row["name"]: row for row in parts["profile"]["rows"]}
    assert "error" not in rows["small, captured"]
    assert rows["small, captured"]["graphs"] >= 1
    assert rows["small, captured"]["launches"] < rows["small, step by step"]["launches"]
    assert all(0 < row["busy"] <= 1.2 for row in rows.values())
