"""The version stands in several files and is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kdbench


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("setup.py", r'version="([^"]+)"'),
        ("CITATION.cff", r"(?m)^version: (\S+)$"),
        ("CHANGELOG.md", r"(?m)^## (\S+)"),
    ],
)
def test_the_version_is_one(file, pattern):
    found = re.search(pattern, Path(file).read_text(encoding="utf-8"))
    assert found
    assert found.group(1) == kdbench.__version__
