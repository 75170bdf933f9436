"""A comparison in every format: Markdown, CSV, LaTeX and HTML for files, and a table that fits a terminal."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence

from tabulate import tabulate

from kdbench.bench.comparison.table import Table, check_table
from kdbench.bench.results.frames import left_out
from kdbench.errors import KdbenchError, did_you_mean
from kdbench.escape import latex, visible

#: formats of files, by the ending that they get
FORMATS = {"md": "md", "csv": "csv", "latex": "tex", "html": "html"}
#: the one for terminals
TEXT = "text"
_PAIR = 33  # columns that a pair takes on a terminal: mean, sd and n, and the gain


def render_table(table: Table, form: str = "md", *, width: int = 80) -> str:
    """The table as text.

    Args:
        table: from :func:`kdbench.bench.comparison.table.build_table`.
        form: ``md``, ``csv`` (tidy, a line a cell), ``latex`` (booktabs), ``html``, or ``text``, in which methods are the rows.
        width: of the terminal, with ``text``.

    Raises:
        KdbenchError: there is no such format.
    """
    check_table(table)
    check_format(form)
    if form == "csv":
        return table.to_csv()
    if form == "md":
        return table.to_markdown()
    return _latex(table) if form == "latex" else _html(table) if form == "html" else _text(table, width)


def check_format(form: str) -> None:
    """Refuse a format that does not exist.

    Raises:
        KdbenchError: it does not.
    """
    known = (*FORMATS, TEXT)
    if form not in known:
        raise KdbenchError(f"--format {form!r} is none of {', '.join(known)}{did_you_mean(form, known)}")


def _notes(table: Table) -> list[str]:
    """What is to be known of its runs."""
    return [*table.notes(), *left_out(table.skipped, table.unfinished)]


def _rows(
    table: Table, escape: Callable[[object], str], best: str, second: str, gain: Callable[[str], str]
) -> list[list[str]]:
    """Two rows a pair: accuracies, the best and the second marked, and gains over the baseline."""
    rows = []
    for pair in table.pairs:
        ranks = table.ranks(pair)
        marks = {0: best, 1: second}
        cells, gains = [], []
        for method in table.methods:
            cell = table.cells.get((pair, method))
            text = escape(table.absent(pair, method) if cell is None else cell.text())
            cells.append(marks.get(ranks.get(method, -1), "{}").format(text))
            value = table.gain(pair, method).value
            gains.append("" if value is None else gain(f"{value:+.2f}"))
        teacher = table.teachers.get(pair)
        rows.append([escape(pair), "" if teacher is None else f"{teacher:.2f}", *cells])
        rows.append([f"gain over {escape(table.baseline)}", "", *gains])
    return rows


def _latex(table: Table) -> str:
    rows = _rows(table, latex, r"\textbf{{{}}}", r"\underline{{{}}}", lambda text: f"${text}$")
    heads = [r"teacher $\to$ student", "teacher", *map(latex, table.methods)]
    lines = [
        "% needs \\usepackage{booktabs,graphicx}; wide tables are scaled to the text's width",
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{latex(table.caption())}}}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{ll{'c' * len(table.methods)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for number, (accuracies, gains) in enumerate(zip(rows[::2], rows[1::2])):
        if number:
            lines.append(r"\addlinespace")
        lines.append(" & ".join(accuracies) + r" \\")
        lines.append(" & ".join([rf"\quad {gains[0]}", *gains[1:]]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", "}"]
    rest = _notes(table)
    if rest:
        lines.append(r"\par\smallskip\raggedright\footnotesize " + " ".join(map(latex, rest)))
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def _html(table: Table) -> str:
    rows = _rows(table, _escaped, "<strong>{}</strong>", "<u>{}</u>", str)
    heads = ["teacher &rarr; student", "teacher", *map(_escaped, table.methods)]
    body = tabulate(rows, heads, tablefmt="unsafehtml", disable_numparse=True)
    return f"{body}\n<p>{' '.join(map(_escaped, [table.caption(), *_notes(table)]))}</p>\n"


def _escaped(text: object) -> str:
    return html.escape(visible(text))


def _text(table: Table, width: int) -> str:
    """Methods as rows, as many pairs beside each other as fit, the others below."""
    from rich import box
    from rich.console import Console, Group
    from rich.table import Table as RichTable
    from rich.text import Text

    names = max(len(visible(method)) for method in table.methods)
    at_once = max(1, (width - min(names, width // 3)) // _PAIR)
    parts: list[object] = []
    for start in range(0, len(table.pairs), at_once):
        pairs = table.pairs[start : start + at_once]
        shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        shown.add_column("method", no_wrap=True, max_width=width // 3)
        for pair in pairs:
            teacher = table.teachers.get(pair)
            own = "" if teacher is None else f"\nteacher {teacher:.2f}"
            shown.add_column(Text(visible(pair) + own), justify="right")
            shown.add_column(Text(f"over {visible(table.baseline)}"), justify="right", max_width=9)
        for method in table.methods:
            shown.add_row(Text(visible(method)), *_text_cells(table, pairs, method))
        parts += [shown, ""]
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, force_terminal=False)
    below = [table.caption("* best, + second"), *_notes(table)]
    console.print(Group(*parts, Text(" ".join(map(visible, below)))))  # type: ignore[arg-type]
    return file.getvalue()


def _text_cells(table: Table, pairs: Sequence[str], method: str) -> list[str]:
    """Accuracy and gain of each pair; ``*`` marks the best, ``+`` the second."""
    cells = []
    for pair in pairs:
        cell, value = table.cells.get((pair, method)), table.gain(pair, method).value
        mark = {0: " *", 1: " +"}.get(table.ranks(pair).get(method, -1), "  ")
        cells.append((table.absent(pair, method) if cell is None else cell.text()) + mark)
        cells.append("" if value is None else f"{value:+.2f}")
    return cells
