"""A filled table as Markdown, CSV or LaTeX."""

from __future__ import annotations

import itertools

import pandas as pd
from tabulate import tabulate

from kdbench.bench.paper.cell import PaperCell
from kdbench.bench.paper.table import FilledPanel, PaperTable
from kdbench.errors import KdbenchError, did_you_mean
from kdbench.escape import csv, latex, markdown

FORMATS = ("md", "csv", "latex")


def render(table: PaperTable, form: str = "md") -> str:
    """The table as text in ``form``: ``md``, ``csv`` (tidy, a line a cell) or ``latex`` (booktabs).

    Raises:
        KdbenchError: there is no such format.
    """
    check_format(form)
    if form == "csv":
        return csv(to_frame(table))
    return _markdown(table) if form == "md" else _latex(table)


def check_format(form: str) -> None:
    """Refuse a format that does not exist.

    Raises:
        KdbenchError: it does not.
    """
    if form not in FORMATS:
        raise KdbenchError(f"--format {form!r} is none of {', '.join(FORMATS)}{did_you_mean(form, FORMATS)}")


def to_frame(table: PaperTable) -> pd.DataFrame:
    """Tidy: one line a figure or gain, with what it is the figure of. A gain has metric ``gain_top1`` and the like.

    ``reported`` is empty in a table of own figures, ``ours_*`` in a table of published ones.
    """
    rows = []
    for cell in table.cells():
        for key, gain in ((cell.key, False), (cell.gain_of, True)):
            if key is None:
                continue
            mean = cell.ours.mean if cell.ours is not None else None
            reported, ours = (cell.reported_gain, cell.ours_gain) if gain else (cell.reported, mean)
            with_paper, with_ours = table.source != "ours", table.source != "reported"
            row = {"table": table.layout.number, "dataset": key.dataset, "teacher": key.teacher, "student": key.student}
            row |= {
                "method": key.method,
                "metric": f"gain_{key.metric}" if gain else key.metric,
                "over": cell.over if gain else "",
            }
            row |= {"select": table.select if with_ours else "", "reported": reported if with_paper else None}
            row |= {"ours_mean": ours, "ours_sd": cell.ours.sd if cell.ours is not None and not gain else None}
            row |= {"ours_n": cell.ours.n if cell.ours is not None and not gain else None}
            known = reported is not None and ours is not None and with_paper
            row |= {"delta": ours - reported if known else None, "other_recipe": cell.other_recipe}  # type: ignore[operator]
            row |= {"note": "; ".join(table.notes[mark - 1] for mark in cell.marks)}
            rows.append(row)
    frame = pd.DataFrame(rows)
    figures = ["reported", "ours_mean", "ours_sd", "delta"]
    # twelve digits, so that a figure's text is the figure: 81.53 - 77.79 is 3.74, not 3.7399999999999949
    frame[figures] = frame[figures].astype("float64").round(12)
    frame["ours_n"] = frame["ours_n"].astype("Int64")
    return frame


def _markdown(table: PaperTable) -> str:
    parts = [f"**{table.caption()}**"]
    for filled in table.panels:
        if filled.panel.title:
            parts.append(filled.panel.title)
        heads = [f"{group}: {name}" if group and not _implied(group) else name for group, name in filled.panel.columns]
        body = [[_md_cell(cell, table.source) for cell in row] for row in filled.rows]
        parts.append(tabulate(body, heads, tablefmt="pipe", disable_numparse=True))
    notes = [f"[{number}] {markdown(note)}" for number, note in enumerate(table.notes, 1)]
    lines = [*notes, *map(markdown, table.remarks)]
    if lines:
        parts.append("\n".join(f"- {line}" for line in lines))
    return "\n\n".join(parts) + "\n"


def _md_cell(cell: PaperCell, source: str) -> str:
    marks = "".join(f" [{mark}]" for mark in cell.marks)
    return r" \| ".join(cell.parts(source)) + marks


def _implied(group: str) -> bool:
    return group in ("From Scratch", "Top-1")


def _latex(table: PaperTable) -> str:
    head = "% needs \\usepackage{booktabs,graphicx,amssymb}; wide tables are scaled to the text's width\n"
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{latex(table.caption())}}}",
        rf"\label{{tab:kdbench{table.layout.number}}}",
    ]
    for filled in table.panels:
        if filled.panel.title:
            lines.append(rf"\par\smallskip {latex(filled.panel.title)}\par\smallskip")
        # scaled down where it is too wide, never up
        lines += [
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            *_tabular(filled, table.source),
            "}",
        ]
    notes = [rf"\textsuperscript{{{number}}} {latex(note)}." for number, note in enumerate(table.notes, 1)]
    notes += [latex(line) for line in table.remarks]
    if notes:
        lines.append(r"\par\smallskip\raggedright\footnotesize " + " ".join(notes))
    return head + "\n".join([*lines, r"\end{table*}"]) + "\n"


def _tabular(filled: FilledPanel, source: str) -> list[str]:
    columns = filled.panel.columns
    texts = sum(1 for cell in filled.rows[0] if cell.key is None and cell.gain_of is None)
    split = [_split(name) for _, name in columns]
    lines = [rf"\begin{{tabular}}{{{'l' * texts}{'c' * (len(columns) - texts)}}}", r"\toprule"]
    lines += _header([(group,) for group, _ in columns])
    lines += _header([(head, group) for (group, _), (head, _) in zip(columns, split)])
    lines += [" & ".join(latex(leaf) for _, leaf in split) + r" \\", r"\midrule"]
    first = filled.rows[0][0].text
    for row in filled.rows:
        if row[0].text != first and "Method" in (name for _, name in columns):
            lines.append(r"\midrule")
            first = row[0].text
        lines.append(" & ".join(_tex_cell(cell, source) for cell in row) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _tex_cell(cell: PaperCell, source: str) -> str:
    marks = ",".join(str(mark) for mark in cell.marks)
    body = r" $\mid$ ".join(latex(part) for part in cell.parts(source))
    return body + (rf"\textsuperscript{{{marks}}}" if marks else "")


def _split(name: str) -> tuple[str, str]:
    """A column's name as what two columns share and the rest: ``VGG8 Top-1`` in two lines of a header is half as wide."""
    head, _, leaf = name.rpartition(" ")
    return (head, leaf) if head and leaf in ("Top-1", "Top-5") else ("", name)


def _header(names: list[tuple[str, ...]]) -> list[str]:
    """A line of headings, each over its run of equal columns, and the rules below; nothing where all headings (the first of each
    tuple; the others tell equal ones apart) are empty."""
    spans = [(key[0], len(list(run))) for key, run in itertools.groupby(names)]
    if not any(text for text, _ in spans):
        return []
    starts = itertools.accumulate((width for _, width in spans), initial=1)
    rules = [rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start, (text, width) in zip(starts, spans) if text]
    cells = [rf"\multicolumn{{{width}}}{{c}}{{{latex(text)}}}" for text, width in spans]
    return [" & ".join(cells) + r" \\", "".join(rules)]
