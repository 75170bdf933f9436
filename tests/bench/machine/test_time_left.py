"""The time that is left of a grid, with a clock that is set by hand."""

from __future__ import annotations

import pytest

from kdbench.bench.machine.time_left import TimeLeft, duration


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def grid(workers, labels):
    clock = Clock()
    return clock, TimeLeft(dict(enumerate(labels)), workers, clock)


def test_nothing_is_said_before_something_like_it_has_finished():
    clock, left = grid(1, [("teacher",), ("KD", "cells"), ("DKD", "cells")])
    left.begin([0])
    clock.now = 9.0
    left.end(0, 9.0)
    assert left.left() is None
    left.begin([1])
    left.end(1, 30.0)
    assert left.left() == 30.0  # DKD as any cell
    left.begin([2])
    clock.now += 12.0
    assert left.left() == 18.0
    clock.now += 100.0
    assert left.left() == 0.0
    left.end(2, 112.0)
    assert left.left() == 0.0


def test_each_kind_has_its_own_cost_and_workers_share_the_rest():
    _, left = grid(2, [("KD", "cells")] * 3 + [("CRD", "cells")] * 3)
    left.end(0, 10.0)
    left.end(3, 50.0)
    assert left.left() == (2 * 10 + 2 * 50) / 2
    left.end(4, 70.0)
    assert left.left() == 60.0  # the last CRD by itself takes longer than its share of the two workers


def test_members_of_a_cohort_share_its_time():
    clock, left = grid(1, [("KD",)] * 8)
    left.begin([0, 1, 2, 3])
    clock.now = 40.0
    for number in range(4):
        left.end(number, 10.0)
    left.begin([4, 5, 6, 7])
    clock.now += 12.0
    assert left.left() == pytest.approx(28.0)


def test_runs_that_share_a_gpu_are_more_than_its_workers():
    clock, left = grid(1, [("KD",)] * 8)
    left.begin([0])
    left.begin([1])
    clock.now = 10.0
    left.end(0, 10.0)
    left.begin([2])
    assert left.left() == pytest.approx((6 * 10) / 2)


def test_one_that_is_to_be_run_again_has_not_begun():
    clock, left = grid(1, [("KD",)] * 2)
    left.end(0, 10.0)
    left.begin([1])
    clock.now = 7.0
    assert left.left() == 3.0
    left.stop([1])
    assert left.left() == 10.0


def test_of_an_unknown_number_of_workers_the_pace_tells():
    clock, left = grid(0, [("KD",)] * 8)
    assert left.left() is None
    clock.now = 10.0
    for number in range(4):  # four at once
        left.end(number, 10.0)
    assert left.left() == 10.0


def test_what_was_done_before_or_failed_teaches_nothing():
    _, left = grid(1, [("KD",)] * 3)
    left.end(0)
    assert left.left() is None
    left.end(1, 5.0)
    assert left.left() == 5.0


def test_durations():
    assert [duration(s) for s in (0.4, 45, 89, 90, 720, 5399, 5400, 36000, 3.6e7)] == [
        "0 s",
        "45 s",
        "89 s",
        "2 min",
        "12 min",
        "90 min",
        "1.5 h",
        "10.0 h",
        "10,000.0 h",
    ]
