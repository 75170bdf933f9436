"""Statistics against values computed by hand, by tables, and by scipy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import write_run

from kdbench.bench.comparison.cell import Cell, paired_seeds
from kdbench.bench.comparison.report import report
from kdbench.bench.comparison.statistics import critical_difference, friedman, holm, pair_tests, summarise
from kdbench.bench.comparison.table import build_table
from kdbench.cli.main import main
from kdbench.errors import KdbenchError


def test_interval_by_hand():
    found = summarise([70.0, 71.0, 72.0])
    # t(0.975, 2) = 4.302653; half width 4.302653 * 1 / sqrt(3) = 2.484138
    assert (found.mean, found.sd, found.n) == (71.0, 1.0, 3)
    assert found.low == pytest.approx(71 - 2.4841377, abs=1e-6)
    assert found.high == pytest.approx(71 + 2.4841377, abs=1e-6)
    assert found.text() == "71.00 [68.52, 73.48] (3)"
    assert summarise([5.0]).text() == "5.00 (1)"
    with pytest.raises(KdbenchError, match="no values to summarise"):
        summarise([])


def test_interval_is_scipys():
    values = np.random.default_rng(0).normal(70, 1, 7)
    found = summarise(list(values), level=0.9)
    low, high = stats.t.interval(0.9, 6, values.mean(), stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def _differences(values, base):
    return summarise([values[seed] - base[seed] for seed in paired_seeds(Cell(values), Cell(base))])


def test_differences_are_paired_by_seed():
    found = _differences({1: 80.0, 2: 82.0, 9: 0.0}, {2: 80.0, 1: 79.0})
    assert (found.mean, found.n) == (1.5, 2)
    assert found.sd == pytest.approx(math.sqrt(0.5))
    assert paired_seeds(Cell({1: 1.0}), Cell({2: 1.0})) == []


def test_critical_difference_is_the_published_table():
    # Demšar 2006, Table 5a: q(0.05) = 2.343, 2.569, 2.728, 3.164 for 3, 4, 5, 10 methods
    for methods, q in ((3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)):
        assert critical_difference(methods, 14) == pytest.approx(q * math.sqrt(methods * (methods + 1) / 84), abs=2e-3)


def scores():
    rows = [[70, 72, 75], [60, 63, 61], [50, 50, 55], [40, 41, 44], [30, 32, 33], [20, 25, 29], [10, 11, 16]]
    return pd.DataFrame(rows, columns=["a", "b", "c"], dtype=float)


def test_ranks_by_hand_and_friedman_is_scipys():
    found = friedman(scores())
    assert found.ranks == pytest.approx(
        {"a": (3 + 3 + 2.5 + 3 + 3 + 3 + 3) / 7, "b": (2 + 1 + 2.5 + 2 * 4) / 7, "c": (1 + 2 + 5) / 7}
    )
    expected = stats.friedmanchisquare(*scores().to_numpy().T)
    assert (found.statistic, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert found.blocks == 7
    assert found.cliques() == [("c", "b"), ("b", "a")]


def test_incomplete_pairs_do_not_count_and_all_ties_do_not_fail():
    frame = scores()
    frame.loc[0, "b"] = np.nan
    assert friedman(frame).blocks == 6
    same = pd.DataFrame(np.ones((4, 3)), columns=list("abc"))
    assert friedman(same).p == 1.0
    with pytest.raises(KdbenchError, match=r"at least 3 methods and 2 pairs .*; here are 2 methods and 6 such pairs"):
        friedman(frame[["a", "b"]])


def test_wins_ties_losses_and_wilcoxon():
    ab, ac = pair_tests(scores(), baseline="c")
    assert (ab.first, ab.second, ab.wins, ab.ties, ab.losses) == ("a", "c", 0, 0, 7)
    assert (ac.wins, ac.ties, ac.losses) == (1, 0, 6)
    assert ab.mean_difference == pytest.approx(-33 / 7, abs=1e-4)
    frame = scores()
    assert ab.p == pytest.approx(stats.wilcoxon(frame.a, frame.c).pvalue)
    assert ab.p_holm == pytest.approx(min(1, 2 * ab.p))
    few = pair_tests(frame.iloc[:5], baseline="c")
    assert all(t.p is None and t.p_holm is None for t in few)
    assert len(pair_tests(frame)) == 3
    with pytest.raises(KdbenchError, match="none of a, b, c"):
        pair_tests(frame, baseline="z")


def test_holm_by_hand():
    assert holm([0.01, 0.04, None, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), None, pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    for student in "pqrstuv":
        for method, gain in (("KD", 0.0), ("DKD", 1.0), ("HCD", 2.0)):
            for seed in (1, 2, 3):
                top1 = 70 + gain + float(rng.normal(0, 0.2))
                write_run(tmp_path, method=method, seed=seed, top1=top1, student=student, seconds=(2.0, 1.0))
    return tmp_path


def test_report(folder, capsys):
    text = report(build_table(folder))
    assert "wins/ties/losses" in text
    assert "| HCD - KD  | 7/0/0" in text
    assert "Friedman: chi2(2) = 14.00" in text
    assert "No cell has a significance star" in text
    assert "*" not in text
    assert main(["table", str(folder), "--stats"]) == 0
    assert "Nemenyi" in capsys.readouterr().out


def test_report_says_what_it_cannot_say(tmp_path):
    for method in ("KD", "HCD"):
        write_run(tmp_path, method=method, seed=1, top1=70.0)
    text = report(build_table(tmp_path))
    assert (
        "No ranks: Friedman's test needs at least 3 methods and 2 pairs with results for all of them; "
        "here are 2 methods and 1 such pair (of 1)." in text
    )
    assert "n/a" in text
