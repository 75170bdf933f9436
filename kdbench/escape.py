"""Text from outside (labels, names of classes and networks, messages of others) on its way into each kind of output.

Whatever it holds, it is shown as text: it formats nothing, links nowhere, runs nothing and moves no cursor.

=====================  ================================================================================================
:func:`visible`        a line of a terminal, of a log or of a message
:func:`markdown`       Markdown with GitHub's tables, formulas and links, and HTML within it
:func:`csv`            a CSV file that a spreadsheet opens
:func:`latex`          LaTeX, in text and in cells of ``tabular``
:func:`picture`        matplotlib: titles, ticks and legends
=====================  ================================================================================================
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: control characters (ESC among them), line and paragraph separators, marks that change the direction of a text, half
#: surrogates (what a file name that is not UTF-8 becomes) and the byte-order mark
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ud800-\udfff\ufeff]"
)
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

_PUNCTUATION = re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_MARKDOWN = re.compile(
    r"[`*|~$]"  # code, emphasis, the end of a cell, deletion, formulas
    rf"|\\(?=[{_PUNCTUATION}]|$)"  # a backslash that would be an escape, or escape what follows the text
    r"|_(?![^\W_])|(?<![^\W_])_"  # emphasis; within a word there is none
    r"|<(?=[A-Za-z/!?])|&(?=[A-Za-z#])"  # HTML
    r"|(?:(?<=!)\[)|\](?=[(\[:])"  # images, links
    r"|(?<=[A-Za-z]):(?=//)|(?<=www)\.",  # what GitHub makes a link by itself
    re.IGNORECASE,
)
#: with what a cell begins that spreadsheets take for a formula, some of them in full-width letters, too
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")

_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
_SYMBOLS = {"±": r"$\pm$", "Δ": r"$\Delta$", "✓": r"\checkmark{}", "->": r"$\to$", "|": r"$\mid$"}
_SYMBOLS |= {"<": "$<$", ">": "$>$", "--": "-{}-", "``": "`{}`", "''": "'{}'"}
_TEX = re.compile("->|--|``|''|.", re.DOTALL)

_LONGEST = 80  # letters of a text in a picture: a longer one leaves no room for what is drawn


def visible(text: Any) -> str:
    """One line in which control characters and the like are shown (``\\n``, ``\\x1b``, ``\\u202e``) and not obeyed."""
    return _HIDDEN.sub(lambda found: _NAMED.get(found[0]) or _code(ord(found[0])), str(text))


def visible_lines(text: str) -> str:
    """:func:`visible` of each line: breaks between lines and tabs stay."""
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))


def markdown(text: Any) -> str:
    """Markdown that is rendered as ``text``, within a line or in a cell of a table; a text that means nothing in Markdown stays
    as it is."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", visible(text))


def csv(frame: pd.DataFrame) -> str:
    """A frame as CSV, without its index. Texts, those of the header too, that a spreadsheet would run as a formula have a ``'``
    before them, which it takes for the sign of a text; numbers are numbers."""
    safe = frame.rename(columns=_cell)
    for place, kind in enumerate(frame.dtypes):
        if kind.kind not in "biuf":
            safe.isetitem(place, frame.iloc[:, place].map(_cell))
    return str(safe.to_csv(index=False, lineterminator="\n"))


def latex(text: Any) -> str:
    """LaTeX that is set as ``text``, in a paragraph, a heading or a cell."""
    shown = visible(text)
    made = "".join(_LATEX.get(part) or _SYMBOLS.get(part, part) for part in _TEX.findall(shown))
    # a row that begins so would be an argument of the command that ends the row before
    return f"{{{made[0]}}}{made[1:]}" if made[:1] in ("[", "*") else made


def picture(text: Any) -> str:
    """What matplotlib draws as ``text``, cut after 80 letters; dollar signs begin no formula."""
    shown = visible(text)
    shown = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
    # a legend leaves out labels that begin with an underscore
    return (" " if shown.startswith("_") else "") + shown.replace("$", r"\$")


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if _FORMULA.match(shown) or value[:1] in ("\t", "\r", "\n") else shown


def from_csv(text: str) -> str:
    """What :func:`csv` has written as ``text``, without the sign of a text."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text[1:]) else text


def _code(number: int) -> str:
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
