"""docs/trust.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_test_that_the_page_names_exists():
    named = NAMED.findall(Path("docs/trust.md").read_text(encoding="utf-8"))
    assert len(named) >= 20
    assert [f"{file}::{name}" for file, name in named if f"def {name}(" not in Path(file).read_text()] == []
