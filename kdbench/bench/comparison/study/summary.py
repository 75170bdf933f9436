"""Section ``summary``."""

from __future__ import annotations

from collections import Counter

from kdbench.bench.comparison.seeds import LEVEL, MIN_SEEDS, baseline_of
from kdbench.bench.comparison.study.sizes import told_larger
from kdbench.bench.comparison.study.study import Study
from kdbench.bench.comparison.study.text import NONE, grid, interval
from kdbench.bench.results.tuning import tuned_label
from kdbench.escape import markdown


def summary(study: Study) -> str:
    """A row a pair: teacher, student alone, what the tests tell from it, and the best method."""
    rows, marked, table = [], set(), study.table
    untested = any(test.p is None for test in study.tests.values())
    for methods, how in study.halves():
        for pair in table.pairs:
            own = [m for m in methods if (pair, m) in table.cells]
            if not own:
                continue
            tests = [study.tests[pair, m] for m in own if (pair, m) in study.tests]
            alone = table.cells.get((pair, baseline_of(table, own[0])))
            signs = Counter(test.sign for test in tests if test.p is not None)
            best = max(tests, key=lambda test: test.difference.mean, default=None)
            marked |= {(pair, best.method)} if best is not None else set()
            teacher = table.teachers.get(pair)
            rows.append(
                [
                    markdown(pair),
                    *([how] if study.tuned else []),
                    NONE if teacher is None else f"{teacher:.2f}",
                    "missing" if alone is None else alone.text(),
                    len(tests),
                    signs[1],
                    signs[0],
                    signs[-1],
                    *([len(tests) - signs.total()] if untested else []),
                    NONE if best is None else f"{study.name(best.method, pair)} {interval(best.difference)}",
                ]
            )
    heads = [
        "pair",
        *(["values"] if study.tuned else []),
        "teacher",
        "student alone" if table.baseline == "Vanilla" else markdown(table.baseline),
        "methods",
        "surely better",
        "not told apart",
        "surely worse",
        *(["not tested"] if untested else []),
        "largest mean difference",
    ]
    tested = [test for test in study.tests.values() if test.p is not None]
    words = (
        f"*Surely* means a two-sided paired t test over the seeds with p < {LEVEL:g} after Holm's correction over all "
        f"{len(tested)} cells with at least {MIN_SEEDS} seeds. The largest of many means is too large on average."
    )
    if study.tuned and tuned_label(table.baseline) not in study.tuned:
        words += f" {markdown(table.baseline)} was not tuned: tuned methods are measured against it as it is."
    elif study.tuned:
        words += f" Tuned methods are measured against {markdown(tuned_label(table.baseline))}, which was tuned for each pair."
    larger = {place: multiple for place, multiple in study.larger.items() if place in marked}
    return "\n\n".join(filter(None, [grid(rows, heads), words, told_larger(larger)]))
