"""Sections ``cells`` and ``cost``."""

from __future__ import annotations

from kdbench.bench.comparison.frontier import frontier
from kdbench.bench.comparison.study.study import Study
from kdbench.bench.comparison.study.text import NONE, grid, interval, multiple, p_value
from kdbench.escape import markdown


def cells(study: Study) -> str:
    """Every cell: mean, sd, n, difference, p, with costs the time of a step, with tuned cells their values; a table a pair."""
    parts = []
    for pair in study.table.pairs:
        own = [m for m in study.table.methods if (pair, m) in study.table.cells]
        own.sort(key=lambda m: -study.table.cells[pair, m].mean)
        valued = any((pair, m) in study.table.tuned for m in own)
        rows = []
        for m in own:
            test, step = study.tests.get((pair, m)), study.costs.get((pair, m))
            rows.append(
                [
                    markdown(m),
                    study.table.cells[pair, m].text(),
                    "" if test is None else interval(test.difference),
                    *(["", ""] if test is None else [p_value(test.p), p_value(test.p_holm)]),
                    *([NONE if step is None else multiple(step)] if study.costs else []),
                    *([markdown(study.table.tuned.get((pair, m), {}).get("values", ""))] if valued else []),
                ]
            )
        heads = ["method", "top-1: mean ± sd (n)", "difference [95%]", "p", "p (Holm)"]
        heads += (["step"] if study.costs else []) + (["chosen values"] if valued else [])
        parts.append(f"### {markdown(pair)}\n\n{grid(rows, heads)}")
    return "\n\n".join(parts)


def cost(study: Study) -> str:
    """A row a pair: the methods that no other one beats in both step time and accuracy, cheapest first."""
    if not study.costs:
        return "No step was timed."
    rows = []
    for pair in study.table.pairs:
        points = study.points(pair)
        chosen = [f"{markdown(m)} ({multiple(points[m][0])}x, {points[m][1]:.2f})" for m in frontier(points)]
        if chosen:
            rows.append([markdown(pair), ", ".join(chosen)])
    return grid(rows, ["pair", "not beaten in both: step time as a multiple of the student's alone, mean top-1"])
