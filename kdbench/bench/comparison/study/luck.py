"""What a table of a few seeds is worth, asked of one with many: every choice of a few is a table that might have been printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from kdbench.bench.comparison.table import Table, check_table
from kdbench.errors import KdbenchError

#: most choices of seeds that are looked at
MOST_CHOICES = 20_000


@dataclass(frozen=True)
class Crowned:
    """Who wins on one pair, with all seeds and with a few of them.

    Attributes:
        pair: its label.
        winner: best mean over all seeds that every method has.
        seeds: their number.
        few: how many are chosen.
        choices: number of ways to do so.
        winners: how often each method has the best mean; of several best, each has its share.
        worst_place: the lowest place of ``winner`` in any choice, 1 = best.
    """

    pair: str
    winner: str
    seeds: int
    few: int
    choices: int
    winners: dict[str, float]
    worst_place: int

    @property
    def other(self) -> float:
        """Share of the choices that crown another method."""
        return 1.0 - self.winners.get(self.winner, 0.0) / self.choices


def crowned(table: Table, methods: Sequence[str], *, few: int = 3) -> list[Crowned]:
    """Of every pair with at least two of these methods and more than ``few`` seeds that all of them have.

    Args:
        table: with many seeds.
        methods: labels that compete.
        few: seeds of a usual table.

    Raises:
        KdbenchError: this is no table, ``few`` is not positive, or there are more than :data:`MOST_CHOICES` choices.
    """
    check_table(table)
    if few < 1:
        raise KdbenchError(f"a table needs at least 1 seed, not {few}")
    found = []
    for pair in table.pairs:
        cells = {m: table.cells[pair, m].values for m in methods if (pair, m) in table.cells}
        seeds = sorted(set.intersection(*map(set, cells.values()))) if len(cells) > 1 else []
        if len(seeds) <= few:
            continue
        if comb(len(seeds), few) > MOST_CHOICES:
            raise KdbenchError(
                f"{few} of {len(seeds)} seeds are {comb(len(seeds), few):,} choices, at most {MOST_CHOICES:,}"
            )
        names = list(cells)
        scores = np.array([[cells[m][seed] for seed in seeds] for m in names])
        winner = int(scores.mean(1).argmax())
        winners: dict[str, float] = {}
        worst = 1
        choices = list(combinations(range(len(seeds)), few))
        for choice in choices:
            means = scores[:, list(choice)].mean(1).round(6)  # equal sums in another order are equal
            best = [names[i] for i in np.flatnonzero(means == means.max())]
            for name in best:
                winners[name] = winners.get(name, 0.0) + 1 / len(best)
            worst = max(worst, 1 + int((means > means[winner]).sum()))
        found.append(Crowned(pair, names[winner], len(seeds), few, len(choices), winners, worst))
    return found
