"""Comparison tables: a row a pair, a column a method, ``mean +- sd (n)`` in every cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from kdbench.bench.comparison.cell import Cell, Gain, gain_over
from kdbench.bench.results.environments import environment_of, mixed_environments
from kdbench.bench.results.frames import left_out
from kdbench.bench.results.labels import load_blocks, load_grid_results
from kdbench.bench.results.select import SELECT, check_select, rule_text, selection_remarks
from kdbench.catalogue import methods
from kdbench.errors import KdbenchError, did_you_mean
from kdbench.escape import csv, markdown


@dataclass
class Table:
    """A comparison.

    Attributes:
        pairs, methods: labels of rows and columns, in order.
        cells: by (pair, method); a cell without results is missing.
        gains: over the baseline, of the same cells.
        teachers: the teacher's own top-1 by pair.
        select: which accuracy: ``last``, ``best`` (optimistic) or ``selected`` (by validation part).
        skipped, unfinished: result files that could not be read, and runs without a result.
        baseline: method to which gains refer.
        failed: (pair, method) of cells of which no run finished and one failed.
        remarks: on tuning, and on runs that were not made in one environment.
        tuned: by (pair, method) of tuned cells, how their values were chosen; see
            :func:`kdbench.bench.results.tuning.tuned_values`.
    """

    pairs: list[str]
    methods: list[str]
    cells: dict[tuple[str, str], Cell]
    gains: dict[tuple[str, str], Gain]
    teachers: dict[str, float]
    select: str
    baseline: str
    skipped: int = 0
    unfinished: int = 0
    failed: frozenset[tuple[str, str]] = frozenset()
    remarks: tuple[str, ...] = ()
    tuned: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    def gain(self, pair: str, method: str) -> Gain:
        """Over the baseline; an empty one where there is none."""
        return self.gains.get((pair, method), Gain())

    def absent(self, pair: str, method: str) -> str:
        """What stands in a cell without a figure."""
        return "failed" if (pair, method) in self.failed else "missing"

    def to_markdown(self) -> str:
        """Two lines a pair: accuracies (best bold, second underlined), then paired gains over the baseline."""
        rows = []
        for pair in self.pairs:
            ranks = self.ranks(pair)
            cells, gains = [], []
            for method in self.methods:
                cell = self.cells.get((pair, method))
                cells.append(self.absent(pair, method) if cell is None else _emphasise(cell.text(), ranks[method]))
                gain = self.gain(pair, method).value
                gains.append("" if gain is None else f"{gain:+.2f}")
            teacher = self.teachers.get(pair)
            rows.append([markdown(pair), "" if teacher is None else f"{teacher:.2f}", *cells])
            rows.append([f"  gain over {markdown(self.baseline)}", "", *gains])
        heads = ["teacher -> student", "teacher", *map(markdown, self.methods)]
        body = tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)
        rest = left_out(self.skipped, self.unfinished)
        return f"{body}\n\n{' '.join([self.caption(), *map(markdown, self.notes()), *rest])}\n"

    def to_csv(self) -> str:
        """The frame as a file that a spreadsheet may open: no label is run as a formula."""
        return csv(self.to_frame())

    def to_frame(self) -> pd.DataFrame:
        """Tidy: one line a cell; of tuned methods also how their values were chosen."""
        rows: list[dict[str, Any]] = []
        for pair in self.pairs:
            for method in self.methods:
                cell, gain = self.cells.get((pair, method)), self.gain(pair, method)
                row: dict[str, Any] = {
                    "pair": pair,
                    "method": method,
                    "select": self.select,
                    "teacher_top1": self.teachers.get(pair),
                }
                if cell is not None:
                    row |= {"mean": round(cell.mean, 4), "sd": cell.sd, "n": cell.n}
                    row |= {f"gain_over_{self.baseline}": gain.value, "gain_sd": gain.sd, "gain_n": gain.n}
                row |= self.tuned.get((pair, method), {})
                rows.append(row)
        frame = pd.DataFrame(rows)
        return frame.astype({"trials": "Int64"}) if "trials" in frame else frame

    def caption(self, marks: str = "Best in bold, second underlined") -> str:
        """What the numbers are, and how the best ones are marked."""
        rule = rule_text(self.select)
        return (
            f"Top-1 accuracy in percent {rule}: mean ± standard deviation over seeds (number of seeds). {marks}. "
            f"Gains are means of differences paired by seed. 'teacher' is the teacher's own accuracy."
        )

    def notes(self) -> list[str]:
        """Remarks on cells whose runs learned from several teachers, on tuning, and on runs of several environments."""
        cells = [f"{p} / {m}" for (p, m), cell in self.cells.items() if cell.teacher_count > 1]
        told = ", ".join(cells[:3]) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
        if not cells:
            return list(self.remarks)
        remark = f"Runs in these cells had teachers with different weights: {told}; gains compare only runs with the same teacher."
        return [remark, *self.remarks]

    def ranks(self, pair: str) -> dict[str, int]:
        """Place of each method of a pair, from 0, by its mean as it is printed; equal means share a place."""
        means = {m: round(self.cells[pair, m].mean, 2) for m in self.methods if (pair, m) in self.cells}
        order = sorted(set(means.values()), reverse=True)
        return {method: order.index(value) for method, value in means.items()}


def check_table(table: object) -> None:
    """Refuse what is no table, a results folder, say.

    Raises:
        KdbenchError: it is none.
    """
    if not isinstance(table, Table):
        raise KdbenchError(f"expects a table, kdbench.build_table(folder), got {type(table).__name__} {table!r:.60}")


def build_table(folder: str | Path, *, select: str = "last", baseline: str = "", blocks: bool = False) -> Table:
    """The table of a results folder.

    Args:
        folder: a grid's folder, any folder above finished runs, or the CSV file of a table's rows.
        select: ``last``, ``best`` or ``selected``; never mixed in one table.
        baseline: method to which gains refer; empty = the grid's own.
        blocks: all grids below the folder as one comparison, a row a data set and pair; see
            :func:`kdbench.bench.results.labels.load_blocks`.

    Raises:
        KdbenchError: no results there, an unknown selection or baseline, or seeds that stand twice in a cell.
    """
    check_select(select)
    frame, record = (load_blocks if blocks else load_grid_results)(folder)
    column = SELECT[select]
    found = frame.dropna(subset=[column])
    if found.empty:
        what = " with a validation part (DATASET.VAL_FRACTION)" if select == "selected" and len(frame) else ""
        raise KdbenchError(f"no finished runs{what} below {str(folder)!r}")
    if baseline and baseline not in record["methods"]:
        raise KdbenchError(
            f"--baseline {baseline!r} is none of the methods{did_you_mean(baseline, record['methods'])}: "
            f"{', '.join(record['methods'])}"
        )
    # a grid need not have run its baseline; its first method stands in then, and the table names it
    baseline = baseline or (record["baseline"] if record["baseline"] in record["methods"] else record["methods"][0])
    twice = found[found.duplicated(["pair", "label", "seed"], keep=False)]
    if len(twice):
        row = twice.iloc[0]
        raise KdbenchError(
            f"{row.pair} / {row.label} / seed {row.seed:.0f} was run under several configurations below {str(folder)!r}; "
            "render the folder of one grid"
        )
    cells = {
        (str(pair), str(label)): Cell(
            {int(seed): float(value) for seed, value in zip(part.seed, part[column])},
            {int(s): str(sha) for s, sha in zip(part.seed, part.teacher_sha256) if isinstance(sha, str) and sha},
        )
        for (pair, label), part in found.groupby(["pair", "label"], sort=False)
    }
    gains = {(p, m): gain_over(cell, cells.get((p, baseline))) for (p, m), cell in cells.items() if m != baseline}
    teachers = {
        str(p): float(part.teacher_top1.dropna().iloc[0])
        for p, part in found.groupby("pair")
        if part.teacher_top1.notna().any()
    }
    failed = frozenset(
        (c["pair"], c["method"])
        for c in record["cells"]
        if c.get("error") and not c.get("run") and (c["pair"], c["method"]) not in cells
    )
    rows = found.drop_duplicates(["pair", "label", "run_id"]).itertuples(index=False)
    shown = found.drop_duplicates("run_id")
    environments = mixed_environments((f"{row.pair} / {row.label}", environment_of(row)) for row in rows)
    remarks = selection_remarks(shown, select) + environments + several_looks(zip(found.label, found.method))
    return Table(
        pairs=record["pairs"],
        methods=record["methods"],
        cells=cells,
        gains=gains,
        teachers=teachers,
        select=select,
        baseline=baseline,
        skipped=len(frame.attrs["skipped"]),
        unfinished=frame.attrs["unfinished"],
        failed=failed,
        remarks=(*record.get("notes", ()), *remarks),
        tuned=record.get("tuned", {}),
    )


def several_looks(runs: Iterable[tuple[str, str]]) -> list[str]:
    """A remark on methods whose students see more than one image of a sample in each step; nothing where there is none.

    Args:
        runs: (label, ``DISTILLER.TYPE``) of each run.
    """
    known = methods()
    images: dict[str, int] = {}
    for label, kind in runs:
        parts = [known.get(part) for part in str(kind).split("+") if part in known]
        images[label] = max(images.get(label, 1), 1 + len({look for part in parts for look in part.looks}))
    told = [f"{label} {count}" for label, count in images.items() if count > 1]
    if not told:
        return []
    return [
        f"Students see more than one image of a sample in each step, and cost as much more: {', '.join(told)}; all others 1."
    ]


def _emphasise(text: str, rank: int) -> str:
    return f"**{text}**" if rank == 0 else f"<u>{text}</u>" if rank == 1 else text
