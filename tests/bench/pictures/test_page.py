"""A comparison as one page: it needs nothing else, shows what the table shows, and labels are text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from nasty_labels import NASTY
from synthetic_runs import write_run

from kdbench.bench.comparison.table import build_table
from kdbench.bench.pictures.page import build_report
from kdbench.cli.main import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def folder(tmp_path):
    for row, teacher in enumerate(["vit", "mixer"]):
        for column, method in enumerate(["Vanilla", "KD", "DKD"]):
            for seed in (1, 2, 3):
                made = {"teacher": teacher, "student": "cnn", "seconds": (2.0, 1.0 + column)}
                write_run(tmp_path / "g", method=method, seed=seed, top1=70 + 3 * row + 5 * column + seed / 4, **made)
    return tmp_path / "g"


class Reader(HTMLParser):
    """Names of elements, texts of the leaderboard, addresses."""

    def __init__(self):
        super().__init__()
        self.tags, self.cells, self.addresses, self._in_cell = [], [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            value for name, value in attrs if name in ("src", "href", "xlink:href") and not value.startswith("#")
        ]
        self._in_cell = self._in_cell or tag == "td"
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data):
        if self._in_cell:
            self.cells[-1] += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_it_shows_what_the_table_shows_and_needs_nothing_else(folder):
    page, table = build_report(folder), build_table(folder)
    found = read(page)
    assert found.addresses == []
    assert not re.search(r"url\((?!#)", page.replace("url(#", ""))
    for cell in table.cells.values():
        assert cell.text() in found.cells
    assert found.tags.count("svg") == 4
    assert found.tags.count("strong") == 2
    assert table.to_markdown().splitlines()[0].replace(">", "&gt;") in page
    assert "\\toprule" in page


def test_labels_are_text(tmp_path):
    cells = []
    for column, method in enumerate(["KD", *NASTY]):
        for seed in (1, 2):
            run = write_run(
                tmp_path / "g", method="KD", seed=seed, top1=60 + column, name=f"r{column}-{seed}", seconds=(1.0, 1.0)
            )
            cells.append({"pair": NASTY[0], "method": method, "seed": seed, "run": run, "error": ""})
    record = {
        "name": "</script><script>alert(1)</script>@@RUNS@@",
        "pairs": [NASTY[0]],
        "methods": ["KD", *NASTY],
        "baseline": "KD",
    }
    (tmp_path / "g" / "grid.json").write_text(json.dumps({**record, "cells": cells, "teachers": {}}))
    page = build_report(tmp_path / "g")
    found = read(page)
    assert found.tags.count("script") == 1
    assert not {"img", "a", "iframe", "b"} & set(found.tags)
    assert page.count("<details class=run>") == 2 * (1 + len(NASTY))
    assert "&lt;/script&gt;" in page


def test_the_command(folder, tmp_path, capsys):
    assert main(["report", str(folder)]) == 0
    assert f"written: {folder / 'report.html'}" in capsys.readouterr().out
    assert main(["report", str(folder), "--out", str(tmp_path / "new" / "page.html"), "--baseline", "Vanilla"]) == 0
    assert "Differences from Vanilla" in (tmp_path / "new" / "page.html").read_text()
    for words, part in (
        (["--out", str(tmp_path / "page.txt")], "ends in .html"),
        (["--baseline", "KDD"], "did you mean 'KD'"),
        (["--select", "lst"], "lst"),
    ):
        assert main(["report", str(folder), *words]) == 2
        assert part in capsys.readouterr().err


SCRIPT = """<script>
const say = [];
const text = row => row.cells[1].textContent + " " + row.cells[0].textContent;
const first = () => [...board.tBodies[0].rows].filter(row => !row.hidden).map(text);
heads[2].querySelector("button").click(); say.push(first()[0]);
heads[2].querySelector("button").click(); say.push(first()[0]);
words.value = "dkd"; words.dispatchEvent(new Event("input")); say.push(first().length);
words.value = ""; pair.value = pair.options[1].textContent; pair.dispatchEvent(new Event("change")); say.push(first().length);
runwords.value = "seed 2"; runwords.dispatchEvent(new Event("input"));
say.push([...document.querySelectorAll("#runs > details")].filter(r => !r.hidden).length);
say.push(document.documentElement.scrollWidth <= window.innerWidth);
document.title = JSON.stringify(say);
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 500])
def test_in_a_browser(folder, tmp_path, width):
    """Sorted, filtered, and no wider than the window."""
    file = tmp_path / "page.html"
    file.write_text(build_report(folder).replace("</body>", SCRIPT), encoding="utf-8")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
        "--dump-dom",
        file.as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    said = json.loads(re.search(r"<title>(.*?)</title>", dom)[1].replace("&gt;", ">"))
    assert said == ["DKD mixer -> cnn", "Vanilla vit -> cnn", 2, 3, 6, True]
