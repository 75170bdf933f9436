"""Every registered method on every pair of families: it runs, or refuses with the reason that the table says.

``KDBENCH_UPDATE_MATRIX=1 pytest tests/conformance -p no:xdist`` writes the table anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kdbench import list_distillers
from kdbench.bench.conformance import FAMILIES, check_pair

TABLE = Path(__file__).with_name("matrix.json")
UPDATE = bool(os.environ.get("KDBENCH_UPDATE_MATRIX"))


@pytest.mark.parametrize("student", FAMILIES)
@pytest.mark.parametrize("teacher", FAMILIES)
@pytest.mark.parametrize("method", list_distillers())
def test_pair(method, teacher, student):
    outcome = check_pair(method, teacher, student)
    table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    if UPDATE:
        table.setdefault(method, {})[f"{teacher} -> {student}"] = outcome
        TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert method in table, f"{method} is new: write its row with KDBENCH_UPDATE_MATRIX=1"
    assert outcome == table[method][f"{teacher} -> {student}"]


def test_table_lists_no_method_that_is_gone():
    assert set(json.loads(TABLE.read_text(encoding="utf-8"))) == set(list_distillers())
