"""Comparison tables: a row a pair, a column a method, ``mean +- sd (n)`` in every cell."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from kdbench.bench.results.environments import environment_of, mixed_environments
from kdbench.bench.results.frames import SELECT, check_select
from kdbench.bench.results.labels import load_blocks, load_grid_results
from kdbench.errors import KdbenchError, did_you_mean


@dataclass(frozen=True)
class Entry:
    """One cell: accuracies of its seeds (percent), the weights that taught them, and the paired gain over the baseline."""

    values: dict[int, float]
    teachers: dict[int, str] = field(default_factory=dict)
    gain: float | None = None
    gain_sd: float | None = None
    gain_n: int = 0

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return sum(self.values.values()) / self.n

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds (ddof 1); None for a single seed."""
        return float(pd.Series(list(self.values.values())).std(ddof=1)) if self.n > 1 else None

    def text(self) -> str:
        """``mean +- sd (n)``; ``n/a`` stands for the sd of a single seed."""
        spread = f"{self.sd:.2f}" if self.sd is not None else "n/a"
        return f"{self.mean:.2f} ± {spread} ({self.n})"


@dataclass
class Table:
    """A comparison.

    Attributes:
        pairs, methods: labels of rows and columns, in order.
        entries: by (pair, method); a cell without results is missing.
        teachers: the teacher's own top-1 by pair.
        select: which accuracy: ``last``, ``best`` (optimistic) or ``selected`` (by validation part).
        skipped, unfinished: result files that could not be read, and runs without a result.
        baseline: method to which gains refer.
        failed: (pair, method) of cells of which no run finished and one failed.
        remarks: on runs that were not made in one environment.
    """

    pairs: list[str]
    methods: list[str]
    entries: dict[tuple[str, str], Entry]
    teachers: dict[str, float]
    select: str
    baseline: str
    skipped: int = 0
    unfinished: int = 0
    failed: frozenset[tuple[str, str]] = frozenset()
    remarks: tuple[str, ...] = ()

    def absent(self, pair: str, method: str) -> str:
        """What stands in a cell without a figure."""
        return "failed" if (pair, method) in self.failed else "missing"

    def to_markdown(self) -> str:
        """Two lines a pair: accuracies (best bold, second underlined), then paired gains over the baseline."""
        rows = []
        for pair in self.pairs:
            ranks = self._ranks(pair)
            cells, gains = [], []
            for method in self.methods:
                entry = self.entries.get((pair, method))
                cells.append(self.absent(pair, method) if entry is None else _emphasise(entry.text(), ranks[method]))
                gains.append("" if entry is None or entry.gain is None else f"{entry.gain:+.2f}")
            teacher = self.teachers.get(pair)
            rows.append([pair, "" if teacher is None else f"{teacher:.2f}", *cells])
            rows.append([f"  gain over {self.baseline}", "", *gains])
        body = tabulate(rows, ["teacher -> student", "teacher", *self.methods], tablefmt="pipe", disable_numparse=True)
        left_out = [f"{self.skipped} unreadable or foreign result files were skipped."] if self.skipped else []
        left_out += [f"{self.unfinished} runs have not finished."] if self.unfinished else []
        return f"{body}\n\n{' '.join([self.caption(), *self.notes(), *left_out])}\n"

    def to_frame(self) -> pd.DataFrame:
        """Tidy: one line a cell."""
        rows: list[dict[str, Any]] = []
        for pair in self.pairs:
            for method in self.methods:
                entry = self.entries.get((pair, method))
                row: dict[str, Any] = {
                    "pair": pair,
                    "method": method,
                    "select": self.select,
                    "teacher_top1": self.teachers.get(pair),
                }
                if entry is not None:
                    row |= {"mean": round(entry.mean, 4), "sd": entry.sd, "n": entry.n}
                    row |= {f"gain_over_{self.baseline}": entry.gain, "gain_sd": entry.gain_sd, "gain_n": entry.gain_n}
                rows.append(row)
        return pd.DataFrame(rows)

    def caption(self) -> str:
        """What the numbers are."""
        which = {
            "last": "at the last epoch",
            "best": "at the best epoch by test accuracy (optimistic)",
            "selected": "at the best epoch by validation accuracy",
        }[self.select]
        return (
            f"Top-1 accuracy in percent {which}: mean ± standard deviation over seeds (number of seeds). Best in bold, second "
            f"underlined. Gains are means of differences paired by seed. 'teacher' is the teacher's own accuracy."
        )

    def notes(self) -> list[str]:
        """Remarks on cells whose runs learned from several teachers, and on runs of several environments."""
        cells = [f"{p} / {m}" for (p, m), entry in self.entries.items() if len(set(entry.teachers.values())) > 1]
        told = ", ".join(cells[:3]) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
        teachers = [f"Under several teachers' weights: {told}; gains pair runs of one teacher."] if cells else []
        return [*teachers, *self.remarks]

    def _ranks(self, pair: str) -> dict[str, int]:
        means = {m: round(self.entries[pair, m].mean, 2) for m in self.methods if (pair, m) in self.entries}
        order = sorted(set(means.values()), reverse=True)
        return {method: order.index(value) for method, value in means.items()}


def build_table(folder: str | Path, *, select: str = "last", baseline: str = "", blocks: bool = False) -> Table:
    """The table of a results folder.

    Args:
        folder: a grid's folder, or any folder above finished runs.
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
    cells = dict(list(found.groupby(["pair", "label"], sort=False)))
    values = {key: {int(s): float(v) for s, v in zip(part.seed, part[column])} for key, part in cells.items()}
    shas = {
        key: {int(s): str(sha) for s, sha in zip(part.seed, part.teacher_sha256) if isinstance(sha, str) and sha}
        for key, part in cells.items()
    }
    entries = {
        (p, m): _entry(v, values.get((p, baseline)), m == baseline, shas[p, m], shas.get((p, baseline), {}))
        for (p, m), v in values.items()
    }
    teachers = {
        str(p): float(part.teacher_top1.dropna().iloc[0])
        for p, part in found.groupby("pair")
        if part.teacher_top1.notna().any()
    }
    failed = frozenset(
        (c["pair"], c["method"])
        for c in record["cells"]
        if c.get("error") and not c.get("run") and (c["pair"], c["method"]) not in entries
    )
    rows = found.drop_duplicates(["pair", "label", "run_id"]).itertuples(index=False)
    remarks = mixed_environments((f"{row.pair} / {row.label}", environment_of(row)) for row in rows)
    left_out = len(frame.attrs["skipped"]), frame.attrs["unfinished"]
    return Table(
        *(record["pairs"], record["methods"], entries, teachers, select, baseline),  # type: ignore[arg-type]
        *(*left_out, failed, tuple(remarks)),  # type: ignore[arg-type]
    )


def _entry(
    values: dict[int, float],
    baseline: dict[int, float] | None,
    is_baseline: bool,
    teachers: dict[int, str],
    base_teachers: dict[int, str],
) -> Entry:
    shared = sorted(set(values) & set(baseline or {}))
    # between runs that learned from different weights a difference is not the method's; a student alone has no teacher
    shared = [s for s in shared if not teachers.get(s) or teachers[s] == base_teachers.get(s, teachers[s])]
    if is_baseline or baseline is None or not shared:
        return Entry(values, teachers)
    differences = pd.Series([values[seed] - baseline[seed] for seed in shared])
    sd = float(differences.std(ddof=1)) if len(shared) > 1 else None
    return Entry(values, teachers, float(differences.mean()), sd, len(shared))


def _emphasise(text: str, rank: int) -> str:
    return f"**{text}**" if rank == 0 else f"<u>{text}</u>" if rank == 1 else text
