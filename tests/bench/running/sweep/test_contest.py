"""The choice among trials: by the validation part at the last epoch, whatever the test part says."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from small_grids import tuned_grid

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.running.sweep.contest import Contest, validation_text
from kdbench.bench.running.sweep.studies import Asked


class Given:
    """A study whose trials are given."""

    def __init__(self, temperatures):
        self.space = {"KD.TEMPERATURE": ()}
        values = [{} if t is None else {"KD.TEMPERATURE": t} for t in temperatures]
        self.trials = [Asked(number, one) for number, one in enumerate(values, 1)]

    def ask(self, count, published):
        assert published == {"KD.TEMPERATURE": 4.0}
        return self.trials[:count]


@pytest.fixture
def contest(tmp_path):
    grid = load_grid(tuned_grid(tmp_path, {"SEEDS": [101, 102]}))
    found = Contest(grid.sweep, "A -> small_cnn", "KD", Given([None, 1, 2]))
    for trial in found.ask(3):
        trial.keys = [f"{trial.number}-{cell.seed}" for cell in trial.cells]
    return found


def runs(folder, **lines):
    """Results by key, whose folders hold these lines of metrics."""
    found = {}
    for key, metrics in lines.items():
        place = folder / key
        place.mkdir()
        (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
        found[key.lstrip("r").replace("_", "-")] = SimpleNamespace(
            folder=str(place), top1_last=metrics[-1]["top1"], kept_epoch=None
        )
    return found


def line(val, test, epoch=2):
    return {"epoch": epoch, "val_top1": val, "top1": test, "top5": test}


def judged(contest, results, failed=(), final=()):
    for trial in contest.trials:
        contest.judge(trial, results, dict(failed), set(final))
    return contest


def test_the_test_part_is_not_read(contest, tmp_path):
    poison = {"r1_101": [line(50, 99.0)], "r1_102": [line(50, 99.0)], "r3_101": [line(40, 98.0)]}
    found = runs(tmp_path, **poison, r2_101=[line(60, 1.0)], r2_102=[line(60, 1.0)], r3_102=[line(60, 98.0)])
    judged(contest, found)
    assert [trial.score for trial in contest.trials] == [50, 60, 50]
    assert contest.chosen.number == 2
    assert contest.cell(7).cfg.KD.TEMPERATURE == 1.0
    assert contest.cell(7).method == "KD (tuned)"
    assert validation_text(found["2-101"]) == "validation top-1 60.00"


def test_the_last_epoch_counts_and_of_equal_trials_the_first(contest, tmp_path):
    late = {f"r{n}_{seed}": [line(90 if n == 3 else 10, 50, 1), line(55, 50)] for n in (1, 2, 3) for seed in (101, 102)}
    judged(contest, runs(tmp_path, **late))
    assert [trial.score for trial in contest.trials] == [55, 55, 55]
    assert contest.chosen.number == 1
    assert contest.cell(7).cfg.KD.TEMPERATURE == 4.0


def test_a_trial_of_which_one_seed_fails_has_failed(contest, tmp_path):
    fine = {f"r{n}_{seed}": [line(50 + n, 50)] for n in (1, 2, 3) for seed in (101, 102)}
    del fine["r3_102"]
    judged(contest, runs(tmp_path, **fine), {"3-102": "not finite"}, {"3-102"})
    assert (contest.trials[2].error, contest.trials[2].score) == ("not finite", None)
    assert contest.chosen.number == 2


def test_a_failure_that_is_not_recorded_decides_nothing(contest, tmp_path):
    fine = {f"r{n}_{seed}": [line(50 + n, 50)] for n in (1, 2, 3) for seed in (101, 102)}
    del fine["r3_102"]
    judged(contest, runs(tmp_path, **fine), {"3-102": "the disk is full"})
    assert contest.chosen is None
    assert contest.reason == "not tuned: trial 3 did not run (the disk is full); the same command runs it again"


@pytest.mark.parametrize("metrics", [[{"epoch": 1, "top1": 50}], [{"epoch": 1, "top1": 50, "val_top1": None}]])
def test_a_run_without_validation_accuracy_decides_nothing(contest, tmp_path, metrics):
    fine = {f"r{n}_{seed}": [line(50 + n, 50)] for n in (1, 2, 3) for seed in (101, 102)}
    found = runs(tmp_path, **{**fine, "r2_101": metrics})
    judged(contest, found)
    assert contest.chosen is None
    assert contest.reason.startswith("not tuned: trial 2 has no validation accuracy that can be read")
    assert validation_text(found["2-101"]) == "no validation top-1"


def test_of_a_run_that_keeps_its_best_epoch_that_epoch_counts(contest, tmp_path):
    found = runs(
        tmp_path, r1_101=[line(60, 1.0, epoch=1), line(50, 1.0)], r1_102=[line(60, 1.0, epoch=1), line(50, 1.0)]
    )
    for result in found.values():
        result.kept_epoch = 1
    assert validation_text(found["1-101"]) == "validation top-1 60.00"
    judged(contest, found)
    assert contest.trials[0].score == 60


def test_scores_of_a_record_stand_until_their_trials_are_judged(contest, tmp_path):
    lines = {f"r{n}_{s}": [line(50 + n, 0)] for n in (1, 2, 3) for s in (101, 102)}
    results = runs(tmp_path, **lines)
    record = judged(contest, results).record()
    assert record["chosen"] == 3
    for trial in contest.trials:
        trial.score = None
    other = {**record, "trials": [{**one, "keys": [f"{key}-other" for key in one["keys"]]} for one in record["trials"]]}
    for said in ({}, {**record, "chosen": None}, other):
        contest.recall(said)
        assert contest.chosen is None
    contest.recall(record)
    assert contest.record() == record
    bad = contest.trials[2]
    contest.judge(bad, results, {bad.keys[0]: "no loss is finite"}, set(bad.keys))
    contest.recall(record)  # what was judged is not taken from the record
    assert (bad.score, contest.chosen.number) == (None, 2)
