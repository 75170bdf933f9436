"""What the validation part decides: early stopping, and the best epoch's weights."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from forked_ranks import forked
from interrupted_runs import compare
from safetensors.torch import load_file
from tiny_run import content, settings

import kdbench
from kdbench.bench.results.shown import describe, shown_run
from kdbench.engine.training.saving.selection import best_line, reason_to_stop
from kdbench.errors import ConfigError, RunStoppedError

#: a rate at which the accuracy on the 12 validation images goes up and down
NOISY = {"DATASET.VAL_FRACTION": 0.25, "SOLVER.LR": 0.3, "SOLVER.SCHEDULE": "constant"}
STOPS = {**NOISY, "SOLVER.PATIENCE": 2}
KEEPS = {**NOISY, "SOLVER.KEEP": "best"}


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def history(*scores: float, every: int = 1) -> list[dict]:
    return [{"epoch": every * (n + 1), "val_top1": score} for n, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "patience", "stops"),
    [
        ((), 1, False),
        ((5.0,), 1, False),
        ((5.0, 5.0), 1, True),  # as good is no better
        ((5.0, 6.0), 1, False),
        ((5.0, 4.0, 3.0), 2, True),
        ((5.0, 4.0, 6.0, 1.0), 2, False),
        ((5.0, 4.0, 3.0), 0, False),
    ],
)
@pytest.mark.parametrize("every", [1, 3])
def test_patience_counts_evaluations(scores, patience, stops, every):
    assert bool(reason_to_stop(history(*scores, every=every), patience)) is stops


def test_of_equally_good_epochs_the_earlier_is_the_best():
    assert best_line(history(1.0, 3.0, 3.0, 2.0))["epoch"] == 2


@pytest.mark.parametrize("key", [{"SOLVER.PATIENCE": 2}, {"SOLVER.KEEP": "best"}])
def test_without_a_validation_part_both_are_refused(tmp_path, key):
    (name,) = key
    with pytest.raises(ConfigError, match=f"{name}: .* set DATASET.VAL_FRACTION"):
        kdbench.train(settings(tmp_path, 2, **key))
    assert not list(tmp_path.iterdir())


def test_a_run_stops_and_says_so(tmp_path, caplog):
    caplog.set_level("INFO", "kdbench")
    whole = kdbench.train(settings(tmp_path / "whole", 12, **NOISY))
    result = kdbench.train(settings(tmp_path / "stops", 12, **STOPS))
    found = lines(result.folder)
    assert result.run_id != whole.run_id
    assert result.epochs == len(found) < 12
    assert found == lines(whole.folder)[: result.epochs]  # until then it is the same run
    best = best_line(found)["epoch"]
    assert result.epochs == best + 2
    assert result.stopped == f"no better val_top1 in 2 evaluations since epoch {best} (SOLVER.PATIENCE)"
    assert f"{result.run_id} stops after epoch {result.epochs}: {result.stopped}" in caplog.text
    assert (result.top1, result.kept_epoch) == (found[-1]["top1"], result.epochs)
    assert whole.stopped is None
    shown = shown_run(result.folder)
    assert shown["state"] == "done"
    assert any(result.stopped in line for line in describe(shown))
    assert kdbench.train(settings(tmp_path / "stops", 12, **STOPS)) == result  # it is done


def test_with_patience_for_all_epochs_nothing_changes(tmp_path):
    plain = kdbench.train(settings(tmp_path / "a", 3, **NOISY))
    patient = kdbench.train(settings(tmp_path / "b", 3, **NOISY, **{"SOLVER.PATIENCE": 3}))
    assert content(plain.folder) == content(patient.folder)


def test_a_run_whose_patience_ends_with_its_last_epoch_was_not_stopped(tmp_path):
    plain = lines(kdbench.train(settings(tmp_path / "a", 6, **NOISY)).folder)
    scores = [line["val_top1"] for line in plain]
    for last in range(2, 7):  # of these epochs, the best lies before the last
        best = scores[:last].index(max(scores[:last])) + 1
        if best < last:
            break
    patience = {"SOLVER.PATIENCE": last - best}
    result = kdbench.train(settings(tmp_path / "b", last, **NOISY, **patience))
    assert result.epochs == last
    assert result.stopped is None


@pytest.mark.parametrize("extra", [STOPS, KEEPS, {**KEEPS, "SOLVER.EMA": 0.5}, {**KEEPS, "SOLVER.PATIENCE": 3}])
def test_a_run_that_goes_on_ends_as_one_that_was_not_stopped(tmp_path, extra):
    whole = kdbench.train(settings(tmp_path / "whole", 8, **extra))
    for at in range(1, 3 * whole.epochs + 1, 2):
        folder = tmp_path / f"at{at}"

        def stop(epoch, step, steps, at=at):
            if (epoch - 1) * steps + step == at:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(RunStoppedError):
            kdbench.train(settings(folder, 8, **extra), progress=stop)
        parts = kdbench.train(settings(folder, 8, **extra))
        assert content(parts.folder) == content(whole.folder)
        assert (parts.epochs, parts.stopped, parts.kept_epoch) == (whole.epochs, whole.stopped, whole.kept_epoch)


def test_a_run_whose_result_is_gone_is_not_trained_further(tmp_path):
    result = kdbench.train(settings(tmp_path, 12, **STOPS))
    before = content(result.folder)
    (Path(result.folder) / "result.json").unlink()
    steps = []
    again = kdbench.train(settings(tmp_path, 12, **STOPS), progress=lambda *at: steps.append(at))
    assert steps == []
    assert (again.epochs, again.stopped) == (result.epochs, result.stopped)
    assert content(again.folder) == before


def test_the_best_epochs_weights_are_kept(tmp_path):
    result = kdbench.train(settings(tmp_path, 8, **KEEPS))
    best = best_line(lines(result.folder))
    assert best["epoch"] < 8
    assert (result.kept_epoch, result.top1, result.top1_selected) == (best["epoch"], best["top1"], best["top1"])
    assert result.top1_last == lines(result.folder)[-1]["top1"]

    def leave(epoch, step, steps):
        if epoch == best["epoch"] + 1:
            raise ValueError("left")  # and nothing is saved within the epoch

    with pytest.raises(ValueError, match="left"):
        kdbench.train(settings(tmp_path / "left", 8, **NOISY), progress=leave)
    (checkpoint,) = (tmp_path / "left").glob("*/checkpoint.pt")
    kept = load_file(Path(result.folder) / "student.safetensors")
    compare(dict(torch.load(checkpoint, weights_only=True)["student"]), kept, "best")
    score = kdbench.evaluate(settings(tmp_path, 8, **NOISY), str(Path(result.folder) / "student.safetensors"))
    assert score.top1 == best["top1"]


def test_curves_do_not_depend_on_what_is_kept(tmp_path):
    plain = kdbench.train(settings(tmp_path / "a", 4, **NOISY))
    kept = kdbench.train(settings(tmp_path / "b", 4, **KEEPS))
    assert content(plain.folder)[0] == content(kept.folder)[0]


def test_members_of_a_cohort_stop_on_their_own(tmp_path):
    def cfgs(folder):
        return [
            settings(folder, 10, **{**one, "SOLVER.LR": rate})
            for one, rate in ((STOPS, 0.3), (NOISY, 0.1), (STOPS, 0.2))
        ]

    together = kdbench.train_cohort(cfgs(tmp_path / "together"))
    alone = [kdbench.train(cfg) for cfg in cfgs(tmp_path / "alone")]
    assert [one.epochs for one in together] == [one.epochs for one in alone]
    assert together[0].epochs < 10 == together[1].epochs
    for one, other in zip(together, alone):
        assert content(one.folder) == content(other.folder)


def test_one_that_has_stopped_does_not_fail_with_the_others(tmp_path):
    cfgs = [settings(tmp_path, 10, **STOPS), settings(tmp_path, 10, **NOISY)]
    alone = kdbench.train(settings(tmp_path / "alone", 10, **STOPS))

    def stop(member, epoch, step, steps):
        if epoch == alone.epochs + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped, other = kdbench.train_cohort(cfgs, progress=stop)
    assert content(stopped.folder) == content(alone.folder)
    assert isinstance(other, RunStoppedError)


def test_processes_stop_together(tmp_path):
    def work(rank: int) -> int:
        result = kdbench.train(settings(tmp_path / "runs", 12, **STOPS, **{"SOLVER.KEEP": "best"}))
        return not (result.epochs < 12 and result.stopped)

    ended = forked(tmp_path, work)
    assert ended.codes == [0, 0], ended.texts


def test_a_cache_holds_whole_views_of_the_epochs_that_were_trained(tmp_path):
    taught = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_cnn", "TEACHER.NORM": "dataset", "TEACHER.FLOOR": 0.0}
    extra = {**STOPS, **taught, "CACHE.ENABLED": True, "CACHE.DTYPE": "fp32", "CACHE.DIR": str(tmp_path / "cache")}
    first = kdbench.train(settings(tmp_path / "a", 12, **extra))
    views = [file for file in (tmp_path / "cache").rglob("*") if "view" in file.name and file.is_file()]
    assert 0 < first.epochs < 12
    assert len(views) == first.epochs
    again = kdbench.train(settings(tmp_path / "b", 12, **extra))
    assert content(first.folder) == content(again.folder)
