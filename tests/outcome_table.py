"""Checked-in tables of what each method does on each pair; ``KDBENCH_UPDATE_MATRIX=1`` writes them anew."""

from __future__ import annotations

import json
import os
from pathlib import Path

UPDATE = bool(os.environ.get("KDBENCH_UPDATE_MATRIX"))


def compare(file: Path, method: str, pair: str, outcome: str) -> None:
    """Hold one outcome against the table."""
    table = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if UPDATE:
        table.setdefault(method, {})[pair] = outcome
        file.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert method in table, f"{method} is new: write its row with KDBENCH_UPDATE_MATRIX=1"
    assert outcome == table[method][pair]
