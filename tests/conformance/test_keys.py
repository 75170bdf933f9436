"""docs/keys.md is what the code says."""

from __future__ import annotations

from pathlib import Path

from kdbench.bench.methods.keys import _leaves, key_reference
from kdbench.config.defaults import defaults
from kdbench.distillers.base import distillers


def test_the_page_is_up_to_date():
    assert Path("docs/keys.md").read_text(encoding="utf-8") == key_reference(), "run python tools/reference.py"


def test_it_has_every_key_and_its_comment():
    page = key_reference()
    for key, _ in _leaves(defaults(), ""):
        assert f"| `{key}`" in page, key
    for name in distillers.names():
        if not distillers.get(name).__module__.startswith("kdbench."):
            continue
        for key, _ in _leaves(distillers.get(name).defaults, f"{name.upper()}."):
            assert f"`{key}`" in page, key
    for words in (
        "passes over the training set that make one epoch",
        "0 = the network's own, or the data's",
        "largest norm of the gradient",
    ):
        assert words in page
