"""docs/keys.md is what the code says."""

from __future__ import annotations

from pathlib import Path

import yaml

from kdbench.bench.grids.reading.keys import grid_reference
from kdbench.bench.methods.keys import _leaves, key_reference
from kdbench.config.defaults import defaults
from kdbench.distillers.base import distillers
from kdbench.paths import shipped_configs


def test_the_pages_are_up_to_date():
    assert Path("docs/keys.md").read_text(encoding="utf-8") == key_reference(), "run python tools/reference.py"
    assert Path("docs/grid-files.md").read_text(encoding="utf-8") == grid_reference(), "run python tools/reference.py"


def test_the_reference_of_grid_files_has_every_key_that_shipped_grids_use():
    page = grid_reference()
    for file in shipped_configs().glob("grids/*.yaml"):
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        nodes = [tree, *tree.get("TEACHERS", {}).values(), *tree["PAIRS"], tree.get("SWEEP", {})]
        nodes += [method for method in tree.get("METHODS", []) if isinstance(method, dict)]
        assert {key for node in nodes for key in node if f"| `{key}`" not in page} == set(), file


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
