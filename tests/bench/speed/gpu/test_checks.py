"""What has to be equal on a GPU, checked on a CPU, where a step is run again in the place of a replay."""

from __future__ import annotations

import pytest
import torch

from kdbench.bench.speed.gpu.checks import group, repeats, steps
from kdbench.bench.speed.gpu.checks.runs import Outcome, methods_of, teacher_file
from kdbench.bench.speed.gpu.settings import settings_for


def saved(into: list):
    return lambda found: into.append([dict(row) for row in found["rows"]])


def test_steps_of_a_method(tmp_path):
    told: list = []
    found = steps.run(settings_for("cpu", ("KD", "CRD", "AB", "FT")), tmp_path, saved(told))
    assert [len(rows) for rows in told] == [1, 2, 3, 4]
    assert found["stand_in"]
    for row in found["rows"]:
        assert row["steps"] == 14
        assert 0 < row["replayed"] < 14
        assert row["equal"]
        assert row["agrees"]
        assert row["deviation"] == 0.0  # the CPU from itself


def test_a_refusal_and_a_failure_leave_the_others_their_turn(tmp_path, monkeypatch):
    real = steps.steps_of

    def failing(cfg, common, *, captured):
        if cfg.DISTILLER.TYPE == "DKD":
            raise RuntimeError("no kernel image\nis available")
        return real(cfg, common, captured=captured)

    monkeypatch.setattr(steps, "steps_of", failing)
    found = steps.run(settings_for("cpu", ("DKD", "KD")), tmp_path, lambda found: None)
    assert found["rows"][0] == {"method": "DKD", "error": "RuntimeError: no kernel image"}
    assert found["rows"][1]["equal"]


def outcome(**how) -> Outcome:
    state = {"weight": torch.ones(3), "mean": torch.zeros(2), "count": torch.tensor(4)}
    given = {"state": state, "gradients": {"weight": torch.ones(3)}, "terms": {"ce": 1.0, "kd": 3.0}, **how}
    return Outcome(**given, steps=1, replayed=0)


def test_a_bit_is_a_difference():
    assert steps.differences(outcome(), outcome()) == []
    moved = {
        "weight": torch.tensor([1.0, 1.0, 1.0 + 2**-23]),
        "mean": torch.tensor([0.0, -0.0]),
        "count": torch.tensor(4),
    }
    assert steps.differences(outcome(state=moved), outcome()) == ["mean", "weight"]
    assert steps.differences(outcome(terms={"ce": 1.0, "kd": 3.5}), outcome()) == ["term kd"]
    assert steps.differences(outcome(gradients={}), outcome()) == ["weight"]


def test_deviation_is_the_largest_one():
    assert steps.deviation(outcome(), outcome()) == 0.0
    assert steps.deviation(outcome(gradients={"weight": torch.full((3,), 1.5)}), outcome()) == pytest.approx(0.5)
    assert steps.deviation(outcome(terms={"ce": 1.0, "kd": 3.4}), outcome()) == pytest.approx(0.1)
    other = {"weight": torch.ones(3), "mean": torch.full((2,), 1e-3), "count": torch.tensor(4)}
    assert steps.deviation(outcome(state=other), outcome()) == pytest.approx(0.1)  # of 0.01, as the mean itself is zero


def test_runs_are_repeated_and_resumed(tmp_path):
    told: list = []
    found = repeats.run(settings_for("cpu", ("DIST",)), tmp_path, saved(told))
    assert found["rows"] == told[-1] == [{"method": "DIST", "twice": True, "resumed": True}]


def test_a_run_that_is_not_repeated_is_told(tmp_path, monkeypatch):
    real, count = repeats._train, iter(range(10))
    monkeypatch.setattr(repeats, "_train", lambda *given: [*real(*given), bytes([next(count) == 1])])
    (row,) = repeats.run(settings_for("cpu", ("Vanilla",)), tmp_path, lambda found: None)["rows"]
    assert row == {"method": "Vanilla", "twice": False, "resumed": True}


def test_steps_in_a_group_of_one(tmp_path):
    found = group.run(settings_for("cpu", ("KD",)), tmp_path, lambda found: None)
    assert found["backend"] == "gloo"
    assert found["rows"] == [{"method": "KD", "twice": True, "plain": True}]
    assert not torch.distributed.is_initialized()


def test_a_teachers_statistics_are_those_of_its_features(tmp_path):
    state = torch.load(teacher_file(tmp_path, "cpu"), weights_only=True)
    means = [value for key, value in state.items() if key.endswith("running_mean")]
    assert means
    assert all(bool(value.any()) for value in means)


def test_all_methods_are_checked_where_none_is_named():
    assert {"KD", "HCD", "CRD"} < set(methods_of(settings_for("cpu")))
    assert set(steps.WIDER) < set(methods_of(settings_for("cpu")))
