"""A run that is killed in mid-epoch and started again ends in the same bytes as one that was not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from each_method import each_method
from interrupted_runs import STEPS, assert_same, configure, run_killed

import kdbench
from kdbench.errors import IncompatibleError

#: with mixing and a cache in the usual suite: logits, a memory bank, draws, a network in parts, own modules, a first phase
WITH_A_CACHE = {"KD", "CRD", "TEKAP_F", "FCFD", "HCD", "FT"}


def check(tmp_path: Path, method: str, **extra) -> None:
    whole = kdbench.train(configure(tmp_path / "whole", method, **extra))
    at = random.Random(f"{method}{sorted(extra)}").sample(range(2, STEPS), 2)
    for step in sorted(at):
        run_killed(tmp_path / "killed", method, step, extra)
    again = kdbench.train(configure(tmp_path / "killed", method, **extra))
    assert again.run_id == whole.run_id
    assert_same(Path(whole.folder), Path(again.folder))


@pytest.mark.parametrize("method", each_method())
def test_killed_run_equals_undisturbed_run(tmp_path, method):
    try:
        check(tmp_path, method)
    except IncompatibleError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("method", each_method(kinds=WITH_A_CACHE))
def test_with_mixing_autocast_and_a_cache_that_is_being_filled(tmp_path, method):
    """Each run has a cache of its own below its folder: the killed one resumes among the views that it had published."""
    extra = {"SOLVER.PRECISION": "bf16", "AUGMENT.MIXUP": 0.8, "AUGMENT.CUTMIX": 1.0, "CACHE.ENABLED": True}
    try:
        check(tmp_path, method, **extra)
    except IncompatibleError as error:
        pytest.skip(str(error))


def test_with_adamw_and_validation(tmp_path):
    check(tmp_path, "OFA", **{"SOLVER.TYPE": "ADAMW", "DATASET.VAL_FRACTION": 0.25})


def test_with_averaged_weights(tmp_path):
    check(tmp_path, "KD", **{"SOLVER.EMA": 0.9})


def test_finished_run_is_not_run_again(tmp_path):
    first = kdbench.train(configure(tmp_path, "KD"))
    marks = []
    second = kdbench.train(configure(tmp_path, "KD"), progress=lambda *a: marks.append(a))
    assert second == first
    assert not marks
