"""The site: it builds without a warning, has every page, and its links lead to pages of its own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import site_hooks

import kdbench

needs_mkdocs = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="needs kdbench[docs]",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Links(HTMLParser):
    """Targets of a page's links and pictures, and the names that it can be linked to by."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.targets += [found[key] for key in ("href", "src") if found.get(key)]
        self.names |= {found[key] for key in ("id", "name") if found.get(key)}


@needs_mkdocs
def test_every_page_and_link_is_there(site):
    pages = {}
    for file in site.rglob("*.html"):
        pages[file] = Links()
        pages[file].feed(file.read_text(encoding="utf-8"))
    assert len(pages) >= len(list(Path("docs").rglob("*.md"))) + 4  # README, CONTRIBUTING, CHANGELOG, the API
    lost = []
    for file, links in pages.items():
        if file.name == "404.html":
            continue
        for target in links.targets:
            if re.match(r"[a-z]+:|//", target):
                continue
            path, _, anchor = target.partition("#")
            there = (file.parent / path).resolve() if path else file
            there = there / "index.html" if there.is_dir() else there
            if not there.exists() or (anchor and there in pages and anchor not in pages[there].names):
                lost.append(f"{file.relative_to(site)}: {target}")
    assert lost == []


@needs_mkdocs
def test_it_loads_nothing_from_elsewhere(site):
    for page in ("index.html", "tutorial.html", "api.html"):
        text = (site / page).read_text(encoding="utf-8")
        assert re.findall(r"<(?:script|img)[^>]+src=.(?:https?:)?//", text) == []
        assert re.findall(r"<link[^>]+rel=.stylesheet.[^>]+href=.(?:https?:)?//", text) == []


@needs_mkdocs
def test_the_api_has_every_public_name(site):
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in set(kdbench.__all__) - {"functional", "__version__"}:
        assert f"{kdbench._PUBLIC[name]}.{name}" in text, name
    assert ":func:" not in re.sub(r"<pre.*?</pre>", "", text, flags=re.S)


def test_links_of_pages_that_move():
    text = "[a](docs/trust.md#x) [b](CONTRIBUTING.md) `[c](docs/no.md)` [d](https://x.y) [e](#here) [f](docs/methods/README.md)"
    assert site_hooks.moved(text, "README.md", "index.md") == (
        "[a](trust.md#x) [b](contributing.md) `[c](docs/no.md)` [d](https://x.y) [e](#here) [f](methods/README.md)"
    )
    assert site_hooks.moved("[a](../README.md#x)", "docs/data.md", "data.md") == "[a](index.md#x)"
    assert site_hooks.moved("[a](../data.md) [b](../../README.md)", "docs/methods/kd.md", "methods/kd.md") == (
        "[a](../data.md) [b](../index.md)"
    )


def test_a_name_without_a_section_is_an_error(monkeypatch):
    monkeypatch.setattr(kdbench, "__all__", [*kdbench.__all__, "new_name"])
    with pytest.raises(ValueError, match="new_name"):
        site_hooks.api_page()
