"""Every registered method on every pair of families: it runs, or refuses with the reason that the table says.

``KDBENCH_UPDATE_MATRIX=1 pytest tests/conformance -p no:xdist`` writes the table anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from outcome_table import compare

from kdbench import list_distillers
from kdbench.bench.methods.conformance import FAMILIES, check_pair, students

TABLE = Path(__file__).with_name("matrix.json")


PAIRS = [
    (method, teacher, student) for method in list_distillers() for teacher in FAMILIES for student in students(method)
]


@pytest.mark.parametrize(("method", "teacher", "student"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_pair(method, teacher, student):
    compare(TABLE, method, f"{teacher} -> {student}", check_pair(method, teacher, student))


def test_table_lists_no_method_that_is_gone():
    assert set(json.loads(TABLE.read_text(encoding="utf-8"))) == set(list_distillers())
