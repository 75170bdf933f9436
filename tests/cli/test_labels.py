"""Labels that mean something to a format, from the results to each file and to the terminal."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from markdown_it import MarkdownIt
from nasty_labels import NASTY
from synthetic_runs import write_run

from kdbench.cli.main import main
from kdbench.escape import visible

METHODS = ["KD", *NASTY]
FORMULA, ESCAPES = "$\\undefined{$", "\x1b[31mred\x1b[0m\x07"
PAIRS = [*NASTY[:3], "$\\undefined{$ -> *s*"]


@pytest.fixture
def folder(tmp_path):
    """A grid of such labels: two seeds of each method on each pair; the last one failed everywhere, with such a reason."""
    cells = []
    for row, pair in enumerate(PAIRS):
        for column, method in enumerate(METHODS):
            for seed in (1, 2):
                cell = {"pair": pair, "method": method, "seed": seed, "run": None, "error": f"it broke {ESCAPES}"}
                if column < len(METHODS) - 1:
                    top1 = 60 + row + (column * 7) % 23 + seed / 10
                    made = {"teacher": pair, "student": method, "seconds": (2.0, 1.0 + column)}
                    cell["run"] = write_run(
                        tmp_path / "g", method="KD", seed=seed, top1=top1, name=f"r{row}-{column}-{seed}", **made
                    )
                    cell["error"] = ""
                cells.append(cell)
    record = {"name": "[bold]g[/nothing]", "pairs": PAIRS, "methods": METHODS, "baseline": "KD", "cells": cells}
    (tmp_path / "g" / "grid.json").write_text(json.dumps({**record, "teachers": {NASTY[3]: "k"}}))
    return tmp_path / "g"


def test_tables(folder, tmp_path, capsys):
    assert main(["table", str(folder), "--out", str(tmp_path / "o")]) == 0
    printed = capsys.readouterr().out
    text = (tmp_path / "o" / "table.md").read_text()
    assert text in printed
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    assert html.count("<tr>") == 1 + 2 * len(PAIRS)
    assert html.count("<th ") == len(METHODS) + 2
    assert html.count("<strong>") == len(PAIRS)  # the best of each row
    assert not re.search(r"<(?:a|img|script|em|s|code)\b", html)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o" / "table.csv").read_text())))
    assert len(rows) == len(PAIRS) * len(METHODS)
    assert {row["method"].removeprefix("'") for row in rows} == {
        visible(method).removeprefix("'") for method in METHODS
    }
    gains = [float(row["gain_over_KD"]) for row in rows if row["gain_over_KD"]]
    assert len(gains) == len(PAIRS) * (len(METHODS) - 2)


def test_pictures(folder, tmp_path, capsys):
    assert main(["table", str(folder), "--plots", str(tmp_path / "p")]) == 0
    files = sorted(file.name for file in (tmp_path / "p").iterdir())
    assert files == ["accuracy.png", "cost.png", "curves.png", "differences.png", "losses.png", "ranks.png"]


def test_statistics(folder, tmp_path):
    assert main(["table", str(folder), "--stats", "--baseline", FORMULA, "--out", str(tmp_path / "o")]) == 0
    html = MarkdownIt("commonmark").enable("table").render((tmp_path / "o" / "statistics.md").read_text())
    assert html.count("<table>") == 4
    assert not re.search(r"<(?:a|img|script|em|s|code)\b", html)


def test_a_grids_status(folder, capsys):
    assert main(["grid", str(folder), "--status"]) == 0
    shown = capsys.readouterr().out
    assert "[bold]g[/nothing]" in shown
    assert "a|b" in shown
    assert f"it broke {visible(ESCAPES)}" in shown.replace("\n", "")
    assert not re.search("[\x00-\x09\x0b-\x1f]", shown)


def test_names_of_runs_without_a_grid(tmp_path, capsys):
    for number, name in enumerate(NASTY):
        extra = {"teacher": name, "student": name, "dataset": name, "name": f"r{number}"}
        write_run(tmp_path / "r", method=name, seed=1, top1=70.0, seconds=(2.0, 1.0), **extra)
    assert main(["table", str(tmp_path / "r"), "--out", str(tmp_path / "o")]) == 0
    assert main(["table", str(tmp_path / "r"), "--stats"]) == 0
    assert main(["table", str(tmp_path / "r"), "--paper", "1", "--format", "latex"]) == 0
    assert not re.search("[\x00-\x09\x0b-\x1f]", capsys.readouterr().out)
