"""Labels are text in every output: nothing is formatted, linked, run or left out."""

from __future__ import annotations

import csv as csv_reader
import io
import re
from html import unescape

import matplotlib as mpl
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from nasty_labels import NASTY
from tabulate import tabulate

from kdbench.escape import csv, latex, markdown, picture, visible, visible_lines

PLAIN = [
    "KD",
    "DKD-b2",
    "HCD(n=2)",
    "ViT -> small_cnn",
    "timm:swin_tiny_patch4_window7_224.ms_in1k",
    "CRD+KD",
    "p < 0.05, q > 1",
    "AUGMENT.RRC_SCALE [0.08, 1.0] (declared [0.5, 1.0])",
    "mean ± sd & more!",
]


@pytest.mark.parametrize("text", NASTY)
def test_a_terminal_is_not_commanded(text):
    shown = visible(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert "\x1b" not in shown
    if text.isprintable() and not set(text) & set("\u202e\ud800"):
        assert shown == text


def test_what_is_not_printed_is_told():
    assert visible("a\nb\x1b[0m\u202e\udcff\x85") == r"a\nb\x1b[0m\u202e\udcff\x85"
    assert visible_lines("a\x1b\n\tb\r") == "a\\x1b\n\tb\\r"


@pytest.mark.parametrize("text", NASTY)
def test_markdown_renders_the_text_itself(text):
    table = tabulate([[markdown(text), "1.00"]], [markdown(text), "top-1"], tablefmt="pipe", disable_numparse=True)
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(table)
    cells = re.findall(r"<t[hd](?: style=\"[^\"]*\")?>(.*?)</t[hd]>", html)
    expected = visible(text).strip()
    assert [unescape(cell) for cell in cells] == [expected, "top-1", expected, "1.00"]
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td)\b)", html)


@pytest.mark.parametrize("text", NASTY)
def test_markdown_has_no_formulas_and_links_of_github(text):
    """Which the renderer above does not know."""
    made = markdown(text)
    assert not re.search(r"(?<!\\)\$", made)
    assert not re.search(r"\w://|www\.", made)


@pytest.mark.parametrize("text", PLAIN)
def test_what_means_nothing_stays_as_it_is(text):
    assert markdown(text) == text
    assert visible(text) == text
    assert picture(text) == text


def test_no_cell_is_a_formula_and_numbers_are_numbers():
    frame = pd.DataFrame({"pair": NASTY, "gain": [-1.33] * len(NASTY), "n": pd.array([1] * len(NASTY), dtype="Int64")})
    frame["=head()"] = [None] * len(NASTY)
    head, *rows = csv_reader.reader(io.StringIO(csv(frame)))
    assert head == ["pair", "gain", "n", "'=head()"]
    assert len(rows) == len(NASTY)
    for text, (pair, gain, n, nothing) in zip(NASTY, rows):
        assert pair in (visible(text), f"'{visible(text)}")
        assert pair.strip()[0] not in "=+-@\t\r"
        assert (gain, n, nothing) == ("-1.33", "1", "")
    assert csv(pd.DataFrame({"a": ["x, y", 'q"'], "b": [1, 2]})) == 'a,b\n"x, y",1\n"q""",2\n'


@pytest.mark.parametrize("text", NASTY)
def test_latex_holds_no_command_of_the_text(text):
    made = latex(text)
    own = (
        r"\\(?:[&%_#${}]|textasciitilde\{\}|textasciicircum\{\}|textbackslash\{\})|\$(?:\\pm|\\Delta|\\to|\\mid|<|>)\$"
    )
    rest = re.sub(own + r"|-\{\}-|[`']\{\}[`']|^\{[\[*]\}", "", made)
    assert not set(rest) & set("&%$#_{}~^\\\n")
    assert not made.startswith(("[", "*"))


def test_latex_of_symbols():
    assert latex("a -> b ± 100% x--y |") == r"a $\to$ b $\pm$ 100\% x-{}-y $\mid$"


@pytest.mark.parametrize("text", NASTY)
def test_a_picture_shows_the_text_itself(text):
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots()
    title = axis.set_title(picture(text))
    shown, is_formula = title._preprocess_math(title.get_text())
    plt.close(figure)
    assert not is_formula
    assert shown.strip() == visible(text).strip() or (shown.endswith("…") and len(shown) == 80)
    assert not picture(text).startswith("_")
