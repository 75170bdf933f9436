"""A comparison as one page that needs nothing else: leaderboard, differences, curves, cost, and every run."""

from __future__ import annotations

import html
import importlib.resources
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.bench.comparison.render import render_table
from kdbench.bench.comparison.table import Table, build_table
from kdbench.bench.pictures.cost import costs, plot_cost
from kdbench.bench.pictures.curves import plot_curves
from kdbench.bench.pictures.differences import differences, plot_differences
from kdbench.bench.results.environments import environment_of
from kdbench.bench.results.frames import left_out
from kdbench.bench.results.labels import load_grid_results
from kdbench.bench.results.recipe import recipe_of_run
from kdbench.bench.results.rows_file import is_rows_file
from kdbench.bench.results.run_files import read_lines
from kdbench.bench.results.shown import sparkline
from kdbench.escape import visible


def build_report(folder: str | Path, *, select: str = "last", baseline: str = "") -> str:
    """One HTML document with everything in it: it works from a file, without a network.

    Args:
        folder: a grid's folder, any folder above finished runs, or the CSV file of a table's rows.
        select: as of :func:`kdbench.build_table`.
        baseline: likewise.

    Raises:
        KdbenchError: see there.
    """
    table = build_table(folder, select=select, baseline=baseline)
    frame, record = load_grid_results(folder)
    frame = frame if is_rows_file(folder) else frame.dropna(subset=["folder"])
    values = {
        "TITLE": _text(record["name"] or Path(folder).name),
        "CAPTION": _text(table.caption("Best in bold, second underlined")),
        "NOTES": "".join(
            f"<li>{_text(note)}</li>" for note in [*table.notes(), *left_out(table.skipped, table.unfinished)]
        ),
        "BASELINE": _text(table.baseline),
        "LEADERBOARD": _leaderboard(table, frame, folder),
        "PAIRS": "".join(f"<option>{_text(pair)}</option>" for pair in table.pairs),
        "DIFFERENCES": _svg(lambda file: plot_differences(table, file)),
        "CURVES": _curves(folder, table, "top1"),
        "LOSSES": _curves(folder, table, "test_loss"),
        "COST": _svg(lambda file: plot_cost(folder, table, file)),
        "RUNS": "" if is_rows_file(folder) else _runs(frame),
        "MARKDOWN": _text(render_table(table, "md")),
        "LATEX": _text(render_table(table, "latex")),
        "COUNT": str(frame.run_id.nunique()),
    }
    page = (
        importlib.resources.files("kdbench.bench.pictures")
        .joinpath("templates", "page.html")
        .read_text(encoding="utf-8")
    )
    parts = page.split("@@")  # text and keys in turn: what is put in is not looked through again
    return "".join(values[part] if place % 2 else part for place, part in enumerate(parts))


def _text(value: object) -> str:
    """A text as HTML; line ends stay."""
    return "\n".join(html.escape(visible(line)) for line in str(value).split("\n"))


def _svg(draw: Callable[[Path], None]) -> str:
    """A picture as SVG within the page."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.svg"
        draw(file)
        text = file.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def _curves(folder: str | Path, table: Table, quantity: str) -> str:
    if is_rows_file(folder):
        return "<p>A file of rows has no curves.</p>"
    return _svg(lambda file: plot_curves(folder, table, file, quantity))


def _leaderboard(table: Table, frame: pd.DataFrame, folder: str | Path) -> str:
    found = differences(table)
    seconds = {(str(r.pair), str(r.label)): float(r.seconds) for r in costs(folder).itertuples(index=False)}
    sizes = {(str(r.pair), str(r.label)): r for r in frame.itertuples(index=False)}
    rows = []
    for pair in table.pairs:
        ranks = table.ranks(pair)
        for method in table.methods:
            cell, own = table.cells.get((pair, method)), sizes.get((pair, method))
            if cell is None or own is None:
                rows.append(_row([(pair, pair), (method, method), ("", table.absent(pair, method)), *[("", "")] * 6]))
                continue
            difference, mark = found.get((pair, method)), ranks[method]
            text = cell.text()
            shown = (
                f"<strong>{_text(text)}</strong>"
                if mark == 0
                else f"<u>{_text(text)}</u>"
                if mark == 1
                else _text(text)
            )
            gain: tuple[object, object] = ("", "")
            if difference is not None:
                gain = (difference.mean, _interval(difference.mean, difference.low, difference.high))
            spent = seconds.get((pair, method))
            rows.append(
                _row(
                    [
                        (pair, pair),
                        (method, method),
                        (cell.mean, None, shown),
                        gain,
                        *(_amount(value) for value in (own.student_params, own.extra_params, own.student_flops)),
                        ("" if spent is None else spent, "" if spent is None else f"{spent:.3g}"),
                        (table.teachers.get(pair, ""), f"{table.teachers[pair]:.2f}" if pair in table.teachers else ""),
                    ]
                )
            )
    return "\n".join(rows)


def _interval(mean: float, low: float | None, high: float | None) -> str:
    return f"{mean:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")


def _amount(value: Any) -> tuple[object, object]:
    missing = value is None or value != value
    return ("", "") if missing else (int(value), f"{int(value):,}")


def _row(cells: list[Any]) -> str:
    """A row; each cell is (what it is sorted by, its text), or has HTML in the third place."""
    made = []
    for cell in cells:
        key = html.escape(visible(cell[0]), quote=True)
        made.append(f'<td data-key="{key}">{cell[2] if len(cell) > 2 else _text(cell[1])}</td>')
    return f"<tr>{''.join(made)}</tr>"


def _runs(frame: pd.DataFrame) -> str:
    """A fold for every run: its values, what tells it apart from its neighbours, its environment."""
    rows = frame.drop_duplicates("run_id").sort_values(["pair", "label", "seed"], kind="stable")
    recipes = {row.run_id: recipe_of_run(row.folder) for row in rows.itertuples(index=False)}
    flat = {run: dict(found.recipe) if found is not None else {} for run, found in recipes.items()}
    every = [value for value in flat.values() if value]
    common = {key for key in (every[0] if every else {}) if len({repr(one.get(key)) for one in every}) == 1}
    return "\n".join(_run(row, flat[str(row.run_id)], common) for row in rows.itertuples(index=False))


def _run(row: Any, recipe: Mapping[str, Any], common: set[str]) -> str:
    try:
        curve = [line["top1"] for line in read_lines(Path(row.folder) / "metrics.jsonl")]
    except (OSError, ValueError, KeyError):
        curve = []
    facts = {
        "run": row.run_id,
        "top-1, last and best": f"{row.top1_last:.2f}, {row.top1_best:.2f} (epoch {row.best_epoch:.0f})",
        "curve": sparkline(curve) if curve else "",
        **(
            {"stopped": f"after epoch {row.epochs:.0f}: {row.stopped}"}
            if isinstance(row.stopped, str) and row.stopped
            else {}
        ),
        "seconds": f"{row.seconds:.1f}",
    }
    apart = {key: json.dumps(value, default=str) for key, value in recipe.items() if key not in common}
    whole = {key: json.dumps(value, default=str) for key, value in recipe.items()}
    made = {key: str(value) for key, value in environment_of(row).items() if value not in (None, "")}
    head = " &middot; ".join(
        _text(part) for part in (row.label, row.pair, f"seed {row.seed:.0f}", f"{row.top1_last:.2f}")
    )
    return (
        f"<details class=run><summary>{head}</summary>{_pairs(facts)}"
        f"<h4>What tells it apart from the other runs</h4>{_pairs(apart)}"
        f"<details><summary>Its whole recipe</summary>{_pairs(whole)}</details>"
        f"<details><summary>Its environment</summary>{_pairs(made)}</details></details>"
    )


def _pairs(values: Mapping[str, object]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in values.items()) + "</dl>"
