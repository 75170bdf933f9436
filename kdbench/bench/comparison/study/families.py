"""Whether what a method gains holds up when the teacher is of another family than the student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kdbench.bench.comparison.seeds import Tested, baseline_of, corrected, differences_by_seed
from kdbench.bench.comparison.statistics import Summary, summarise
from kdbench.bench.comparison.table import Table, check_table
from kdbench.catalogue import family_of


@dataclass(frozen=True)
class Family:
    """Of a pair: its student's name, and the families of both (``cnn``, ``vit``, ``mlp``, ``hybrid``)."""

    student: str
    teacher_family: str
    student_family: str

    @property
    def same(self) -> bool:
        """Whether teacher and student are of one family."""
        return self.teacher_family == self.student_family


@dataclass(frozen=True, kw_only=True)
class Gap(Tested):
    """A method with one student: its gain over the baseline under teachers of the student's family and of others. Its
    ``difference`` is ``same - other``, paired by seed, so that its sign is 1 where the gain is surely smaller under other families.

    Attributes:
        student, method: whose.
        same, other: means over the pairs of each kind, by seed, in percentage points.
    """

    student: str
    method: str
    same: Summary
    other: Summary


def pair_families(frame: pd.DataFrame) -> dict[str, Family]:
    """Families by pair, of those whose networks the zoo knows.

    Args:
        frame: of :func:`kdbench.bench.results.labels.load_grid_results`.
    """
    found = {}
    taught = frame[frame.teacher.fillna("").ne("") & frame.student.notna()]  # a failed run has neither
    for row in taught.drop_duplicates("pair").itertuples(index=False):
        families = family_of(row.teacher), family_of(row.student)
        if all(families):
            found[str(row.pair)] = Family(str(row.student), *families)
    return found


def family_gaps(table: Table, families: Mapping[str, Family]) -> list[Gap]:
    """The gaps of every method that has, with a student, results under a teacher of its family and under one of every other family
    of the table; in the order of students and methods.

    Raises:
        KdbenchError: this is no table.
    """
    check_table(table)
    found = []
    known = [pair for pair in table.pairs if pair in families and (pair, table.baseline) in table.cells]
    for student in dict.fromkeys(families[pair].student for pair in known):
        pairs = [pair for pair in known if families[pair].student == student]
        same = [pair for pair in pairs if families[pair].same]
        other = [pair for pair in pairs if not families[pair].same]
        if not same or not other:
            continue
        for method in table.methods:
            if method == baseline_of(table, method):
                continue
            gains = {pair: differences_by_seed(table, pair, method) for pair in pairs}
            seeds = sorted(set.intersection(*map(set, gains.values())))
            if not seeds:
                continue
            at = [_mean(gains, same, seed) for seed in seeds]
            away = [_mean(gains, other, seed) for seed in seeds]
            gap = [a - b for a, b in zip(at, away)]
            found.append(Gap.of(gap, student=student, method=method, same=summarise(at), other=summarise(away)))
    return corrected(found)


def _mean(gains: Mapping[str, Mapping[int, float]], pairs: list[str], seed: int) -> float:
    return sum(gains[pair][seed] for pair in pairs) / len(pairs)
