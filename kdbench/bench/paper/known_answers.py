"""Known answers: figures that their authors print beside those of a grid's own runs, and a verdict on each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from kdbench.bench.comparison.cell import Cell
from kdbench.bench.grids.grid import Grid, Published
from kdbench.bench.results.labels import load_grid_results
from kdbench.bench.results.recipe import differences, recipe, recipe_of_run
from kdbench.bench.results.select import SELECT, rule_text
from kdbench.config.load import to_dict
from kdbench.errors import ConfigError
from kdbench.escape import markdown

#: how many standard deviations of the own seeds the published figure may lie from their mean
TOLERANCE = 2.0
YES, NO, OPEN = "reproduced", "not reproduced", "not judged"


@dataclass(frozen=True)
class Answer:
    """One known answer.

    Attributes:
        pair, method: labels of the cell.
        published: what its authors print.
        own: the grid's runs of the cell; None where there are none.
        verdict: :data:`YES` or :data:`NO`, or :data:`OPEN` with a reason.
        reason: why there is no verdict.
    """

    pair: str
    method: str
    published: Published
    own: Cell | None
    verdict: str
    reason: str = ""


def judge(grid: Grid, folder: str | Path, select: str = "best") -> list[Answer]:
    """Every known answer of a grid beside its runs. A figure is reproduced if it lies within :data:`TOLERANCE` standard deviations
    of the mean of at least two own seeds, all of which were trained as the grid declares, as was their teacher.

    Args:
        grid: as it was declared, with :attr:`kdbench.bench.grids.grid.Grid.published`.
        folder: of its runs; one that does not exist yet has none.
        select: ``best`` (the trainers of mdistiller and of timm, on which OFA-KD's builds, report the best test epoch) or
            ``last``.

    Raises:
        ConfigError: the grid has no known answers.
    """
    if not grid.published:
        raise ConfigError(f"the grid {grid.name!r} has no PUBLISHED figures to judge by")
    rows = pd.DataFrame() if not Path(folder).is_dir() else load_grid_results(folder)[0].dropna(subset=["folder"])
    answers = []
    for (pair, method), published in grid.published.items():
        found = rows[(rows.pair == pair) & (rows.label == method)] if len(rows) else rows
        answers.append(_judged(grid, pair, method, published, found, SELECT[select]))
    return answers


def _judged(grid: Grid, pair: str, method: str, published: Published, found: pd.DataFrame, column: str) -> Answer:
    if not len(found):
        return Answer(pair, method, published, None, OPEN, "no run has finished")
    own = Cell(dict(zip(found.seed, found[column])))
    told = [line for folder in found.folder for line in _deviations(grid, pair, method, Path(folder))]
    if told:
        return Answer(pair, method, published, own, OPEN, "; ".join(dict.fromkeys(told)))
    if own.sd is None:
        return Answer(pair, method, published, own, OPEN, "one seed has no spread")
    near = abs(own.mean - published.top1) <= TOLERANCE * own.sd
    return Answer(pair, method, published, own, YES if near else NO)


def _deviations(grid: Grid, pair: str, method: str, folder: Path) -> list[str]:
    """How a run, and that of its teacher, differ from what the grid declares."""
    cell = next(cell for cell in grid.cells if (cell.pair, cell.method) == (pair, method))
    teacher = grid.teachers.get(cell.teacher)
    run = recipe_of_run(folder)
    if run is None:
        return ["its configuration cannot be read"]
    told = differences(run.recipe, recipe(to_dict(cell.with_teacher(teacher, ""))))
    if teacher is None:
        return told
    if teacher.parts:
        return [*told, "it learned from several teachers, whose runs are not compared with what is declared"]
    if teacher.cfg is None:
        return told
    made = recipe_of_run(folder.parent / run.teacher_run) if run.teacher_run else None
    if made is None:
        return [*told, "its teacher's run cannot be found"]
    return told + [f"its teacher's {line}" for line in differences(made.recipe, recipe(to_dict(teacher.cfg)))]


def page(grid: Grid, answers: list[Answer], select: str = "best") -> str:
    """The verdicts as Markdown."""
    rows = []
    for answer in answers:
        difference = "" if answer.own is None else f"{answer.own.mean - answer.published.top1:+.2f}"
        allowed = "" if answer.own is None or answer.own.sd is None else f"± {TOLERANCE * answer.own.sd:.2f}"
        verdict = answer.verdict + (f": {answer.reason}" if answer.reason else "")
        own = "" if answer.own is None else answer.own.text()
        cells = [answer.pair, answer.method, f"{answer.published.top1:.2f}", own, difference, allowed, verdict]
        rows.append([*map(markdown, cells), markdown(answer.published.source)])
    heads = ["teacher -> student", "method", "published", "own", "difference", "allowed", "verdict", "source"]
    counts = Counter(answer.verdict for answer in answers)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (YES, NO, OPEN) if counts[verdict])
    return "\n\n".join(
        [
            f"# Known answers: {markdown(grid.name)}",
            f"Of {len(answers)} published figures: {said}.",
            tabulate(rows, heads, tablefmt="pipe", disable_numparse=True),
            f"Top-1 accuracy in percent {rule_text(select)}: mean ± standard deviation over seeds (number of seeds). A figure is "
            f"reproduced if it lies within {TOLERANCE:g} standard deviations of the own seeds' mean; the spread of the published "
            "figures themselves is not known. Only runs that were made as the grid file declares are judged, and only from two "
            "seeds on.\n",
        ]
    )
