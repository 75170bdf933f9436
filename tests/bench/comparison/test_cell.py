"""One rule for which seeds may be paired, everywhere."""

from __future__ import annotations

import pytest

from kdbench.bench.comparison.cell import Cell, Gain, gain_over, paired_seeds

ALONE = Cell({1: 70.0, 2: 71.0})
KD = Cell({1: 72.0, 2: 73.0}, {1: "a", 2: "a"})


def test_a_student_alone_pairs_with_every_run_of_its_seed():
    assert gain_over(ALONE, KD) == Gain(-2.0, 0.0, 2)
    assert gain_over(KD, ALONE) == Gain(2.0, 0.0, 2)


def test_runs_of_two_teachers_do_not():
    other = Cell({1: 74.0, 2: 75.0}, {1: "b", 2: "a"})
    assert paired_seeds(other, KD) == [2]
    gain = gain_over(other, KD)
    assert (gain.value, gain.sd, gain.n) == (2.0, None, 1)
    assert "1 of 2 seeds" in gain.note
    assert "different teachers" in gain_over(Cell({1: 74.0}, {1: "b"}), KD).note


def test_nor_of_two_recipes():
    other = Cell({1: 74.0, 2: 75.0}, {1: "a", 2: "a"}, {1: ("SOLVER.LR 0.1",)})
    assert paired_seeds(other, KD) == [2]
    assert "another recipe" in gain_over(Cell({1: 74.0}, {1: "a"}, {1: ("SOLVER.LR 0.1",)}), KD).note


def test_without_common_seeds_there_is_nothing_to_say():
    assert gain_over(Cell({3: 74.0}), KD) == Gain()
    assert gain_over(None, KD) == Gain()


def test_a_cell_says_mean_deviation_and_number():
    assert Cell({1: 70.0, 2: 72.0}).text() == "71.00 ± 1.41 (2)"
    assert Cell({1: 70.0}).text() == "70.00 ± n/a (1)"
    assert Cell({1: 1e16, 2: 1.0, 3: -1e16}).mean == pytest.approx(1 / 3)  # summed without rounding
