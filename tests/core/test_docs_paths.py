"""What README and docs name is there: files, modules and their attributes, links and their headings."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from kdbench.plugins import DATASETS, METHODS, MODELS, TRACKERS

PAGES = [Path("README.md"), Path("CONTRIBUTING.md"), *sorted(Path("docs").rglob("*.md"))]
#: names from the top of the checkout; those with a placeholder (``<n>``, ``*``) stand for several files
FILE = re.compile(r"(?<![\w./<-])(?:kdbench|configs|docs|tests|tools)/[\w./<>*-]*[\w/>*]")
DOTTED = re.compile(r"(?<![\w./-])kdbench(?:\.[A-Za-z_]\w*)+")
LINK = re.compile(r"\]\(((?!https?:)[^)\s]*)\)")
#: groups through which installed packages register: names of an interface, whether or not a module is called so
GROUPS = {METHODS, MODELS, DATASETS, TRACKERS}


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute (of an attribute) of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    titles = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?s)```.*?```", "", text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_are_there(page):
    named = set(FILE.findall(page.read_text(encoding="utf-8")))
    assert sorted(n for n in named if not set("<>*") & set(n) and not Path(n).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_names_are_there(page):
    named = set(DOTTED.findall(page.read_text(encoding="utf-8"))) - GROUPS
    assert sorted(name for name in named if not resolves(name)) == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    wrong = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        if not there.exists() or (anchor and anchor not in anchors(there.read_text(encoding="utf-8"))):
            wrong.append(target)
    assert wrong == []


def test_the_patterns_find_what_is_wrong():
    text = "see `kdbench/nowhere.py`, `kdbench.models.nowhere` and `kdbench.models.zoo.nowhere`"
    assert FILE.findall(text) == ["kdbench/nowhere.py"]
    assert not any(resolves(name) for name in DOTTED.findall(text))
    assert resolves("kdbench.models.zoo.create_model")
    assert resolves("kdbench.load_results")
    assert anchors("# A method in 30 lines\n## `x`: what?") == {"a-method-in-30-lines", "x-what"}
