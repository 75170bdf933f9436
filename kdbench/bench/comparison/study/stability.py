"""Sections ``luck`` and ``ranks``: how much of a ranking is luck."""

from __future__ import annotations

from kdbench.bench.comparison.statistics import friedman
from kdbench.bench.comparison.study.luck import crowned
from kdbench.bench.comparison.study.study import Study
from kdbench.bench.comparison.study.text import grid
from kdbench.errors import KdbenchError
from kdbench.escape import markdown


def luck(study: Study) -> str:
    """A row a pair: who wins with all seeds, and how often with a few."""
    rows = []
    for methods, how in study.halves():
        for one in crowned(study.table, methods, few=study.few):
            first = sorted(one.winners.items(), key=lambda item: -item[1])
            often = ", ".join(f"{markdown(m)} {100 * share / one.choices:.0f}%" for m, share in first[:3])
            rows.append(
                [
                    markdown(one.pair),
                    *([how] if study.tuned else []),
                    f"{markdown(one.winner)} ({one.seeds} seeds)",
                    f"{100 * one.other:.0f}% of {one.choices}",
                    len(one.winners),
                    often,
                    one.worst_place,
                ]
            )
    if not rows:
        return f"No pair has more than {study.few} seeds of two methods."
    heads = [
        "pair",
        *(["values"] if study.tuned else []),
        "best mean",
        f"another winner with {study.few} seed{'s' * (study.few != 1)}",
        "different winners",
        "most often",
        "lowest place of the best",
    ]
    return grid(rows, heads)


def rank_table(study: Study, methods: list[str]) -> str:
    """Average ranks with Friedman's test and Nemenyi's critical difference, of the methods that every pair has."""
    try:
        found = friedman(study.frame(methods))
    except KdbenchError as error:
        return f"No ranks: {markdown(error)}."
    order = sorted(found.ranks.items(), key=lambda item: item[1])
    listed = ", ".join(f"{markdown(m)} {rank:.1f}" for m, rank in order)
    return (
        f"Friedman: chi2({len(order) - 1}) = {found.statistic:.1f}, p = {found.p:.2g}, over {found.blocks} pairs and the "
        f"{len(order)} methods that all of them have. Nemenyi's critical difference at {found.alpha:g}: "
        f"{found.critical_difference:.1f} ranks. Average ranks: {listed}."
    )
