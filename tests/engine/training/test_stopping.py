"""Signals that ask a run to stop: it is saved within the step, and goes on to the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from each_method import each_method
from interrupted_runs import STEPS, assert_same, configure, run_killed
from tiny_run import overrides, settings

import kdbench
from kdbench import stopping
from kdbench.engine.training.saving.checkpoint import load_checkpoint
from kdbench.errors import ConfigError, IncompatibleError, RunStoppedError


def stopped(cfg, at: int, number: int = signal.SIGTERM) -> str:
    """Train until global step ``at``, after which this process is asked to stop; returns what is said."""

    def progress(epoch: int, step: int, steps: int) -> None:
        if (epoch - 1) * steps + step == at:
            os.kill(os.getpid(), number)

    with pytest.raises(RunStoppedError) as caught:
        kdbench.train(cfg, progress=progress)
    assert stopping.asked() == ""
    return str(caught.value)


def check(tmp_path: Path, method: str, **extra) -> None:
    whole = kdbench.train(configure(tmp_path / "whole", method, **extra))
    at = sorted(random.Random(f"stop {method}{sorted(extra)}").sample(range(1, STEPS + 1), 3))
    for number, step in zip((signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP), at):
        said = stopped(configure(tmp_path / "stopped", method, **extra), step, number)
        epoch, within = divmod(step - 1, 6)
        assert said == (
            f"stopped by {signal.Signals(number).name} after step {within + 1} of 6 in epoch {epoch + 1}, which is saved; the "
            "same command goes on"
        )
        (file,) = (tmp_path / "stopped").rglob("checkpoint.pt")
        state = load_checkpoint(file)
        assert state is not None
        assert (state["epoch"], state["step"]) == (epoch, within + 1)
    again = kdbench.train(configure(tmp_path / "stopped", method, **extra))
    assert again.run_id == whole.run_id
    assert_same(Path(whole.folder), Path(again.folder))


@pytest.mark.parametrize("method", each_method())
def test_a_run_that_is_stopped_within_epochs_equals_an_undisturbed_one(tmp_path, method):
    try:
        check(tmp_path, method)
    except IncompatibleError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("method", ["KD", "CRD", "HCD", "RKD"])
def test_with_mixing_autocast_and_a_cache_that_is_being_filled(tmp_path, method):
    extra = {"SOLVER.PRECISION": "bf16", "AUGMENT.MIXUP": 0.8, "AUGMENT.CUTMIX": 1.0, "CACHE.ENABLED": True}
    check(tmp_path, method, **extra)


def test_with_averaged_weights_and_clipping(tmp_path):
    check(tmp_path, "KD", **{"SOLVER.EMA": 0.9, "SOLVER.CLIP_GRAD": 0.5, "SOLVER.TYPE": "LAMB"})


def test_the_chunks_of_batches_are_those_of_a_whole_epoch(tmp_path):
    """Several batches are augmented together; one that begins within does not tear them apart."""
    from kdbench.data.build import build_data
    from kdbench.engine.parts import make_loader
    from kdbench.engine.runtime import Runtime

    cfg = configure(tmp_path, "Vanilla", **{"AUGMENT.AUTO": "rand-m9-mstd0.5", "AUGMENT.MIXUP": 0.5})
    loader = make_loader(cfg, build_data(cfg), Runtime(torch.device("cpu")))
    loader._chunks = lambda: [[0, 1, 2, 3], [4, 5]]
    whole = list(loader.epoch(2))
    for start in range(7):
        part = list(loader.epoch(2, start))
        assert len(part) == 6 - start
        for one, two in zip(whole[start:], part):
            assert all(torch.equal(a, b) for a, b in zip(one.on_device(), two.on_device()))


def test_a_view_of_part_of_an_epoch_is_not_stored(tmp_path):
    cached = {"CACHE.ENABLED": True, "CACHE.VIEWS": 1, "CACHE.DIR": str(tmp_path / "cache")}
    whole = kdbench.train(configure(tmp_path / "whole", "KD", **{**cached, "CACHE.DIR": str(tmp_path / "other")}))
    stopped(configure(tmp_path / "runs", "KD", **cached), 3)
    assert list((tmp_path / "cache").rglob("view*.bin")) == []
    seen = []

    def progress(epoch, step, steps):
        if step == steps:
            seen.append(len(list((tmp_path / "cache").rglob("view*.bin"))))

    again = kdbench.train(configure(tmp_path / "runs", "KD", **cached), progress=progress)
    assert seen == [0, 0, 1]  # the first is the rest of an epoch; the second writes, and publishes after its last step
    assert_same(Path(whole.folder), Path(again.folder))


@pytest.mark.parametrize("every", ["2 steps", "0.001 minutes"])
def test_a_checkpoint_within_an_epoch_is_gone_on_from(tmp_path, every, caplog):
    extra = {"SOLVER.CHECKPOINT_EVERY": every}
    whole = kdbench.train(configure(tmp_path / "whole", "CRD"))
    run_killed(tmp_path / "killed", "CRD", 11, extra)
    (file,) = (tmp_path / "killed").rglob("checkpoint.pt")
    if every == "2 steps":
        state = load_checkpoint(file)
        assert state is not None
        assert (state["epoch"], state["step"]) == (1, 4)
    again = kdbench.train(configure(tmp_path / "killed", "CRD", **extra))
    assert again.run_id == whole.run_id
    assert_same(Path(whole.folder), Path(again.folder))


@pytest.mark.parametrize(
    "text", ["500", "0 steps", "1.5 steps", "-3 steps", "ten minutes", "5 hours", "1e3 steps", " "]
)
def test_other_words_are_refused(text):
    with pytest.raises(ConfigError, match=r"CHECKPOINT_EVERY.*expects a number of steps or minutes"):
        kdbench.load_config(overrides={"SOLVER.CHECKPOINT_EVERY": text})


def test_members_of_a_cohort_go_on_from_steps_of_their_own(tmp_path):
    def cfgs(folder):
        return [configure(folder, "KD", **{"KD.TEMPERATURE": t}) for t in (1.0, 2.0, 4.0)]

    whole = [kdbench.train(cfg) for cfg in cfgs(tmp_path / "whole")]
    some = cfgs(tmp_path / "some")
    stopped(some[0], 4)
    stopped(some[1], 10)

    def progress(member, epoch, step, steps):
        if (member, epoch, step) == (2, 2, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    outcomes = kdbench.train_cohort(some, progress=progress)
    assert all(isinstance(outcome, RunStoppedError) for outcome in outcomes)
    at = []
    for cfg in some:
        (file,) = (
            f
            for f in (tmp_path / "some").rglob("checkpoint.pt")
            if f"TEMPERATURE: {cfg.KD.TEMPERATURE}" in (f.parent / "config.yaml").read_text()
        )
        state = load_checkpoint(file)
        at.append((state["epoch"], state["step"]))
    assert at == [(1, 1), (1, 4), (1, 1)]  # the second was ahead
    again = kdbench.train_cohort(some)
    for one, two in zip(whole, again):
        assert_same(Path(one.folder), Path(two.folder))


def test_in_an_evaluation(tmp_path, monkeypatch):
    """Which may take longer than a scheduler waits."""
    from kdbench.engine.training.saving import lines

    whole = kdbench.train(configure(tmp_path / "whole", "KD"))
    real, calls = lines.score, []

    def score(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **options)

    monkeypatch.setattr(lines, "score", score)
    with pytest.raises(RunStoppedError, match="in an evaluation"):
        kdbench.train(configure(tmp_path / "stopped", "KD"))
    (file,) = (tmp_path / "stopped").rglob("checkpoint.pt")
    state = load_checkpoint(file)
    assert (state["epoch"], state["step"]) == (1, 6)
    again = kdbench.train(configure(tmp_path / "stopped", "KD"))
    assert_same(Path(whole.folder), Path(again.folder))


def test_signals_that_somebody_else_handles_stay_theirs(tmp_path):
    seen = []
    old = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        kdbench.train(settings(tmp_path, 1), progress=lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert seen
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("verb", ["train", "teacher"])
def test_the_command_ends_with_75_and_goes_on(tmp_path, verb):
    words = [f"{k}={v}" for k, v in overrides(tmp_path, 400).items()]
    if verb == "teacher":
        words.append("DISTILLER.TEACHER=small_cnn")
    process = subprocess.Popen(
        [sys.executable, "-m", "kdbench", verb, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    said = [line for line in error.splitlines() if line.startswith("kdbench: ")]
    assert len(said) == 1
    assert "stopped by SIGTERM" in said[0]
    assert "the same command goes on" in said[0]
    assert list(tmp_path.rglob("result.json")) == []
    assert [f.name for f in tmp_path.rglob(".*") if f.is_file() and f.name != ".lock"] == []
