"""A grid's table in every format says the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from synthetic_runs import write_run

from kdbench.bench.comparison.render import FORMATS, render_table
from kdbench.bench.comparison.table import build_table
from kdbench.cli.main import main
from kdbench.errors import KdbenchError

PAIRS = {"ViT -> CNN": ("vit", "cnn"), "Mixer -> CNN": ("mixer", "cnn"), "CNN -> CNN": ("cnn2", "cnn")}


@pytest.fixture
def folder(tmp_path):
    for row, (teacher, student) in enumerate(PAIRS.values()):
        for column, method in enumerate(["Vanilla", "KD", "A_LONG_NAME_OF_A_METHOD_&_MORE"]):
            for seed in (1, 2, 3):
                write_run(
                    tmp_path / "g",
                    method=method,
                    seed=seed,
                    top1=70 + 3 * row + 5 * column + seed / 4,
                    teacher=teacher,
                    student=student,
                )
    return tmp_path / "g"


def figures(text: str) -> list[str]:
    """Means in the order in which they stand."""
    return re.findall(r"(\d\d\.\d\d) (?:±|\$\\pm\$|\+-)", text)


def test_all_say_the_same(folder):
    table = build_table(folder)
    expected = figures(table.to_markdown())
    assert len(expected) == 9
    for form in ("latex", "html"):
        assert figures(render_table(table, form)) == expected, form
    for width in (60, 80, 200):
        assert sorted(figures(render_table(table, "text", width=width))) == sorted(expected)
    assert render_table(table, "csv") == table.to_csv()
    with pytest.raises(KdbenchError, match=r"'htm' is none of md, csv, latex, html, text \(did you mean 'html'\?\)"):
        render_table(table, "htm")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_is_not_left(folder, width):
    text = render_table(build_table(folder), "text", width=width)
    assert max(map(len, text.splitlines())) <= width
    best = [line for line in text.splitlines() if " *" in line and "best" not in line]
    assert best
    assert all(line.startswith("A_LONG") for line in best)


def test_html_is_a_table_of_its_texts(folder):
    cells: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data):
            cells.append(data.strip())

    Reader().feed(render_table(build_table(folder), "html"))
    assert "A_LONG_NAME_OF_A_METHOD_&_MORE" in cells
    assert "ViT" not in cells  # pairs are networks' names here
    assert cells.count("gain over KD") == 3


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_is_set(folder, tmp_path):
    body = render_table(build_table(folder), "latex")
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(head + body + "\\end{document}")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_latex_by_its_form(folder):
    text = render_table(build_table(folder), "latex")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 2 * 3
    assert all(row.count("&") - row.count(r"\&") == 4 for row in rows)
    assert r"A\_LONG\_NAME\_OF\_A\_METHOD\_\&\_MORE" in rows[0]
    assert text.count(r"\textbf{") == 3
    assert text.count(r"\underline{") == 3
    assert {"\\toprule", "\\midrule", "\\bottomrule"} <= set(text.splitlines())


def test_the_command_writes_every_format(folder, tmp_path, capsys):
    assert main(["table", str(folder), "--format", "latex", "--out", str(tmp_path / "o")]) == 0
    assert capsys.readouterr().out.startswith("% needs")
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == sorted(
        [*(f"table.{suffix}" for suffix in FORMATS.values()), "table.png"]
    )
    assert main(["table", str(folder), "--format", "text"]) == 0
    assert "over KD" in capsys.readouterr().out
