"""The page and the verdicts of stored results, of a GPU that there is not."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from kdbench.bench.speed.gpu.page import render
from kdbench.bench.speed.gpu.parts import PARTS
from kdbench.bench.speed.gpu.targets import judge

STORED = json.loads(Path(__file__).with_name("imagined.json").read_text(encoding="utf-8"))


@pytest.fixture
def results():
    return copy.deepcopy(STORED)


def verdicts(results) -> list[str]:
    return [row["verdict"] for row in judge(results)]


def test_targets_are_judged(results):
    rows = judge(results)
    assert [row["value"] for row in rows] == [
        pytest.approx(5.2),
        pytest.approx(2.4),
        pytest.approx(9.0),
        pytest.approx(1.18),
        pytest.approx(2.65),
        pytest.approx(0.01),
        pytest.approx(32 / 31),
        pytest.approx(27 / 26),
        None,
        1.0,
    ]
    good, bad = "reached", "missed"
    assert verdicts(results) == [good, bad, good, bad, good, good, good, good, "not measured", bad]
    assert rows[8]["why"] == "KD, not deterministic: failed in reading 1: it took longer than the time that it had"


def test_a_bound_itself_is_reached(results):
    rows = results["parts"]["small"]["rows"]
    rows[-1]["rate"] = rows[1]["rate"] / 5
    assert verdicts(results)[0] == "reached"
    rows[-1]["rate"] *= 1.001
    assert verdicts(results)[0] == "missed"


def test_what_is_missing_is_not_guessed(results):
    results["parts"]["small"]["rows"].pop()  # the adapter
    results["parts"]["profile"]["rows"] = [{"name": "large, captured", "error": "no kernels"}]
    results["parts"]["large"] = {"error": "cut off"}
    results["parts"]["determinism"]["rows"][1] = {"method": "KD", "error": "RuntimeError: no"}
    rows = judge(results)
    assert [row["verdict"] for row in rows] == ["not measured"] * 7 + ["reached"] + ["not measured"] * 2
    assert {row["value"] for row in rows if row["verdict"] == "not measured"} == {None}
    assert [rows[number]["why"] for number in (0, 3, 5, 9)] == [
        "no adapter of mdistiller was read (--peer)",
        "KD: cut off",
        "no kernels",
        "failed: KD",
    ]


def test_a_candidate_without_its_plain_loop_is_not_judged(results):
    results["parts"]["large"]["rows"][1]["ratio"] = None
    assert judge(results)[3]["why"] == "plain loop: no reading"


def test_a_method_that_was_never_replayed_is_pointed_out(results):
    assert "none was replayed" not in render(results)
    results["parts"]["methods"]["rows"][1]["replayed"] = 0
    assert "declared capturable, none was replayed" in render(results)


def test_runs_that_were_cut_off_are_not_all_equal(results):
    results["parts"]["determinism"]["error"] = "cut off"
    assert judge(results)[-1]["why"] == "cut off"
    results["parts"]["determinism"] = {"rows": []}
    assert judge(results)[-1]["why"] == "no run"


def test_nothing_of_a_cpu_is_judged(results):
    results["device"] = "cpu"
    assert set(verdicts(results)) == {"not measured"}
    assert "its figures say nothing of a GPU" in render(results)


def test_the_page_says_what_is_there_and_what_is_not(results):
    results["targets"] = judge(results)
    page = render(results)
    assert page.startswith("# kdbench on Imagined GPU\n")
    assert all(f"## {part.title}\n" in page for part in PARTS)
    for line in (
        "Not measured, or not to the end: its process ended with code -9: no message.",
        "Not measured, or not to the end: cut off at its limit of 60 s.",
        "Not measured, or not to the end: not run: the time was used up.",
        "- KD, bf16 channels_last, warm cache: not ready: OutOfMemoryError: CUDA out of memory",
        "differ: distiller.memory, student.fc.weight",
        "refused: undefined for the pair",
        "failed**: the profiler's trace holds no kernels",
        "| 45,000 ",
        "40,500 - 49,500",
        "missed",
        "2.0e-02 (0.001)",
    ):
        assert line in page
    assert "rehearsal" not in page


def test_the_page_of_a_run_that_was_cut_off_at_once():
    empty = {name: STORED[name] for name in ("kdbench", "started", "device", "minutes")}
    page = render({**empty, "parts": {}})
    assert page.count("Not measured, or not to the end: not run.") == len(PARTS)
