"""Who is gone, silent or stuck, judged by signs of life."""

from __future__ import annotations

import threading

import pytest

from kdbench.processes import verdict
from kdbench.processes.board import Beat
from kdbench.processes.place import Place
from kdbench.processes.verdict import Judge, Steps

PLACES = [Place("here", 10 + rank, "1", "") for rank in range(3)]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [1000.0]
    monkeypatch.setattr(verdict.time, "monotonic", lambda: now[0])
    return now


def test_silence_is_death_and_long_work_is_not(clock):
    judge = Judge(PLACES)
    assert judge.gone({1: Beat(1), 2: Beat(1)}, []) is None
    for look in range(100):  # 2 works alone for an hour, and its thread says that it lives
        clock[0] += verdict.SILENCE - 1
        assert judge.gone({1: Beat(look + 2), 2: Beat(look + 2)}, []) is None
    clock[0] += verdict.SILENCE + 1
    assert judge.gone({1: Beat(200), 2: Beat(101)}, []) == (2, "has given no sign of life for 41 s")
    assert judge.name(2) == "process 2 of 3 (pid 12 on here)"


def test_death_on_the_same_machine_needs_no_silence(clock):
    assert Judge(PLACES).gone({1: Beat(1), 2: Beat(1)}, [2]) == (2, "is gone")


def test_who_has_left_is_not_gone(clock):
    judge = Judge(PLACES)
    assert judge.gone({1: Beat(1, left=True)}, [1]) is None
    clock[0] += 10 * verdict.SILENCE
    assert judge.gone({1: Beat(1, left=True)}, []) is None


def step(number: int, still: float, at: str, limit: float = 45.0) -> Beat:
    return Beat(1, number, still, limit, at)


def test_one_for_which_others_wait_is_stuck():
    waiting, loads = step(7, 50, ""), step(7, 50, "sets.py:3 (read)")
    assert Judge.stuck({0: waiting, 1: loads, 2: waiting}) == (1, "has been stuck for 50 s at sets.py:3 (read)")
    # on a GPU the others may have gone on and wait somewhere in kdbench
    assert Judge.stuck({0: step(8, 50, "ledger.py:9 (found)"), 1: loads}) == (
        1,
        "has been stuck for 50 s at sets.py:3 (read)",
    )


@pytest.mark.parametrize(
    "beats",
    [
        {0: step(7, 50, ""), 1: step(7, 50, "")},  # both within PyTorch: the network between them, or slow work
        {0: step(7, 50, "sets.py:3 (read)"), 1: step(7, 50, "sets.py:3 (read)")},  # both load: a slow disk
        {0: step(7, 50, ""), 1: step(7, 40, "sets.py:3 (read)")},  # not for long
        {0: step(7, 50, "", 500), 1: step(7, 50, "sets.py:3 (read)", 500)},  # steps take long here
        {0: step(7, 50, ""), 1: Beat(1, 7)},  # the other is at no step: it may work alone
    ],
    ids=["torch", "disk", "short", "slow", "alone"],
)
def test_what_may_be_slow_is_not_stuck(beats):
    assert Judge.stuck(beats) is None


def test_a_step_may_take_ten_times_the_longest_and_nothing_is_said_outside_of_steps(clock):
    steps = Steps()
    assert steps.beat(1) == Beat(1)
    steps.next()
    assert steps.beat(2).limit == verdict.FIRST
    clock[0] += 30
    steps.next()
    clock[0] += 2
    beat = steps.beat(3)
    assert (beat.number, beat.step, beat.still, beat.limit) == (3, 2, 2, 300)
    steps.rest()
    assert steps.beat(4) == Beat(4, 2)
    steps.next()
    clock[0] += 1
    steps.next()
    assert steps.beat(5).limit == 300  # the longest of the run


def test_the_main_threads_line_is_found_from_another_thread():
    steps, found = Steps(), []
    steps.next()
    thread = threading.Thread(target=lambda: found.append(steps.beat(1).at))
    thread.start()
    thread.join()
    assert found[0].startswith("test_verdict.py:")
    assert found[0].endswith("(test_the_main_threads_line_is_found_from_another_thread)")
