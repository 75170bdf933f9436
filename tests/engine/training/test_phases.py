"""What a method trains before the first epoch: on the student, and on the teacher alone."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from interrupted_runs import SETTINGS, assert_same, configure, run_killed

import kdbench
from kdbench.bench.running.small_run import small_config
from kdbench.distillers.base import distillers
from kdbench.distillers.compose import Composed
from kdbench.engine.session import pretrain as pretrain_module
from kdbench.engine.session.checked.phases import check_phases
from kdbench.engine.training.saving.checkpoint import load_checkpoint
from kdbench.errors import IncompatibleError, NonFiniteLossError, RunStoppedError

STUDENT = {"AB": "AB.INIT_EPOCHS", "FSP": "FSP.INIT_EPOCHS"}
SAME = {"TEACHER.OPTIONS.widths": [8, 16, 32]}  # the student's


def settings(folder: Path, method: str, **extra: Any) -> Any:
    own = SAME if method == "FSP" else {}
    return configure(folder, method, **{f"{method}.INIT_EPOCHS": 2, **own, **extra})


def lines(result: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(result.folder) / "metrics.jsonl").read_text().splitlines()]


def stop_at(epoch: int, step: int) -> Any:
    def progress(*at: int) -> None:
        if at[:2] == (epoch, step):
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


@pytest.mark.parametrize("method", STUDENT)
def test_killed_in_its_first_phase_and_behind_it_a_run_ends_in_the_same_bytes(tmp_path: Path, method: str) -> None:
    extra = {f"{method}.INIT_EPOCHS": 2, "SOLVER.CHECKPOINT_EVERY": "2 steps", **(SAME if method == "FSP" else {})}
    whole = kdbench.train(configure(tmp_path / "whole", method, **extra))
    for at in (-9, -2, 3):  # epoch -1, step 3; epoch 0, step 4; epoch 1, step 3
        run_killed(tmp_path / "killed", method, at, extra)
    again = kdbench.train(configure(tmp_path / "killed", method, **extra))
    assert_same(Path(whole.folder), Path(again.folder))
    first, *others = lines(whole)
    assert [(line["phase"], line["epoch"], line["lr"]) for line in first["phases"]] == [
        (first["phases"][0]["phase"], 1, 0.01),
        (first["phases"][0]["phase"], 2, 0.01),
    ]
    assert all("phases" not in line for line in others)
    assert [line["epoch"] for line in (first, *others)] == [1, 2, 3]
    assert whole.phase_seconds is not None
    assert 0 < whole.phase_seconds < whole.seconds
    assert again.phase_seconds is not None


@pytest.mark.parametrize(("epoch", "words"), [(0, r"epoch 0 \(of the first phase"), (1, "epoch 1, which")])
def test_stopped_within_an_epoch(tmp_path: Path, epoch: int, words: str) -> None:
    whole = kdbench.train(settings(tmp_path / "whole", "AB", **{"SOLVER.EMA": 0.9}))
    with pytest.raises(RunStoppedError, match=words):
        kdbench.train(settings(tmp_path / "again", "AB", **{"SOLVER.EMA": 0.9}), progress=stop_at(epoch, 4))
    again = kdbench.train(settings(tmp_path / "again", "AB", **{"SOLVER.EMA": 0.9}))
    assert_same(Path(whole.folder), Path(again.folder))


def test_it_trains_all_but_the_classifier_and_the_optimiser_begins_anew(tmp_path: Path) -> None:
    class OverError(Exception):
        """The first phase is over."""

    def progress(epoch: int, step: int, steps: int) -> None:
        if epoch == 1:
            raise OverError

    cfg = settings(tmp_path, "AB")
    with pytest.raises(OverError):
        kdbench.train(cfg, progress=progress)
    (file,) = tmp_path.rglob("checkpoint.pt")
    state = load_checkpoint(file)
    assert state is not None
    assert state["epoch"] == 0
    student = kdbench.create_model("small_cnn", num_classes=10, data_size=8, seed=cfg.EXPERIMENT.SEED, drop_rate=0.3)
    fresh = student.backbone.state_dict()
    changed = {key for key, value in fresh.items() if not torch.equal(value, state["student"][key])}
    classifier = {key for key in fresh if key.startswith(("fc", "head", "classifier"))}
    assert classifier
    assert changed
    assert not changed & classifier
    assert any(key.endswith(".weight") for key in changed)
    momenta = [one["momentum_buffer"] for one in state["optimizer"]["state"].values()]
    assert not any(bool(momentum.any()) for momentum in momenta)


def test_members_of_a_cohort_end_in_the_bytes_of_their_separate_runs(tmp_path: Path) -> None:
    own = [("Vanilla", {}), ("AB", {}), ("KD", {}), ("AB", {"AB.INIT_EPOCHS": 1, "AB.LOSS.KD_WEIGHT": 1.0}), ("FT", {})]
    alone = [kdbench.train(make(tmp_path / "alone", method, extra)) for method, extra in own]
    together = kdbench.train_cohort([make(tmp_path / "together", method, extra) for method, extra in own])
    for one, other in zip(alone, together):
        assert isinstance(other, kdbench.RunResult), other
        assert_same(Path(one.folder), Path(other.folder))


def make(folder: Path, method: str, extra: dict[str, Any]) -> Any:
    return settings(folder, method, **extra) if method in ("AB", "FT") else configure(folder, method, **extra)


def test_a_term_that_is_not_finite_is_named_with_its_phase(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"of AB is not finite in epoch -?\d \(of the first phase"):
        kdbench.train(settings(tmp_path, "AB", **{"SOLVER.LR": 1000.0}))


def test_under_autocast_clipping_and_skipping(tmp_path: Path) -> None:
    extra = {"SOLVER.PRECISION": "bf16", "SOLVER.CLIP_GRAD": 1.0, "SOLVER.NON_FINITE": "skip"}
    result = kdbench.train(settings(tmp_path, "AB", **extra))
    assert result.skipped_steps == 0
    assert lines(result)[0]["phases"][1]["train"]["stage_0"] < lines(result)[0]["phases"][0]["train"]["stage_0"]


def test_parts_of_a_batch_give_the_phase_of_whole_batches(tmp_path: Path) -> None:
    """A network without batch normalisation learns from a teacher with the same widths."""
    network = {"DISTILLER.TEACHER": "small_vit", "DISTILLER.STUDENT": "small_vit", "FSP.INIT_EPOCHS": 2}
    own = {
        **SETTINGS,
        "STUDENT.OPTIONS.drop_rate": 0.0,
        "DISTILLER.TYPE": "FSP",
        "LOG.PREFIX": str(tmp_path),
        **network,
    }
    phases = []
    for count in (1, 2):
        result = kdbench.train(kdbench.load_config(overrides={**own, "SOLVER.ACCUMULATE": count}))
        phases.append([line["train"]["pair_0"] for line in lines(result)[0]["phases"]])
    assert phases[0] == pytest.approx(phases[1], rel=1e-3)
    assert phases[0][0] > phases[0][1] > 0
    with pytest.raises(IncompatibleError, match="normalises over the batch"):
        kdbench.train(settings(tmp_path, "AB", **{"SOLVER.ACCUMULATE": 2}))


def test_several_processes_are_refused_in_one_line() -> None:
    networks = [kdbench.create_model("small_cnn", num_classes=10, seed=seed) for seed in (1, 2)]
    for name, what in (("AB", "boundaries"), ("FT", "paraphraser")):
        method = kdbench.create_distiller(name, *networks)
        check_phases(method, 1)
        with pytest.raises(
            IncompatibleError, match=f"{name} trains its {what} before the first epoch.*2 are not possible"
        ):
            check_phases(method, 2)
    check_phases(kdbench.create_distiller("FT", *networks, init_epochs=0), 2)


def test_compositions_hold_one_first_phase() -> None:
    networks = [kdbench.create_model("small_cnn", num_classes=10, seed=seed) for seed in (1, 2)]
    method = kdbench.create_distiller("AB+FT", *networks)
    assert [phase.name for phase in method.phases()] == ["boundaries", "paraphraser"]
    parts = {name: kdbench.create_distiller(name, *networks) for name in ("AB", "FSP")}
    with pytest.raises(IncompatibleError, match="AB and FSP both begin with a phase"):
        Composed(parts)


def test_smoke_runs_have_phases_of_one_epoch(tmp_path: Path) -> None:
    for name in distillers.names():
        if "INIT_EPOCHS" in distillers.get(name).defaults:
            small = small_config(configure(tmp_path, name, **{f"{name}.INIT_EPOCHS": 30}), batch=2, steps=2)
            assert small[name].INIT_EPOCHS == 1


CACHED = {"CACHE.ENABLED": True}


def test_what_is_trained_on_the_teacher_alone_is_shared_by_its_students(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"SOLVER.SCHEDULE": "constant", "SOLVER.LR": 0.02}
    expected = kdbench.train(settings(tmp_path / "alone", "FT", **other))
    assert not list(Path(expected.folder).glob("phase-*"))
    kdbench.train(settings(tmp_path / "runs", "FT", **CACHED))
    (file,) = (tmp_path / "runs").rglob("phase-*.safetensors")
    assert file.parent.name == "trained"

    def never(self: object) -> None:
        raise AssertionError("it is trained already")

    with monkeypatch.context() as patch:
        patch.setattr(pretrain_module._Pretraining, "run", never)
        found = kdbench.train(settings(tmp_path / "runs", "FT", **CACHED, **other))
        assert_same(Path(expected.folder), Path(found.folder))
        for changed in ({"FT.K": 0.25}, {"FT.INIT_LR": 0.1}, {"EXPERIMENT.SEED": 5}, {"SOLVER.BATCH_SIZE": 8}):
            with pytest.raises(AssertionError, match="trained already"):
                kdbench.train(settings(tmp_path / "runs", "FT", **CACHED, **changed))
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="kdbench"):
        anew = kdbench.train(settings(tmp_path / "runs", "FT", **CACHED, **other, **{"SOLVER.EVAL_EVERY": 2}))
    assert any("damaged; it is trained anew" in line for line in caplog.messages)
    assert lines(anew)[0]["phases"] == lines(found)[0]["phases"]


@pytest.mark.parametrize("extra", [{}, CACHED], ids=["alone", "cache"])
def test_training_on_the_teacher_goes_on_from_its_last_whole_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, extra: dict[str, Any]
) -> None:
    whole = kdbench.train(settings(tmp_path / "whole", "FT", **extra))
    calls = iter(range(100))

    def check(where: str = "") -> None:
        if next(calls) == 8:  # in the second epoch
            raise RunStoppedError(f"stopped {where}")

    with monkeypatch.context() as patch:
        patch.setattr(pretrain_module.stopping, "check", check)
        with pytest.raises(RunStoppedError, match="in epoch 2 of the paraphraser"):
            kdbench.train(settings(tmp_path / "again", "FT", **extra))
    with caplog.at_level(logging.INFO, logger="kdbench"):
        again = kdbench.train(settings(tmp_path / "again", "FT", **extra))
    assert [line for line in caplog.messages if "on the teacher alone" in line] == [
        "paraphraser, epoch 2 of 2 on the teacher alone"
    ]
    assert_same(Path(whole.folder), Path(again.folder))


def test_a_resumed_run_does_not_train_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kdbench.train(settings(tmp_path / "whole", "FT"))
    with pytest.raises(RunStoppedError):
        kdbench.train(settings(tmp_path / "again", "FT"), progress=stop_at(2, 3))
    monkeypatch.setattr(pretrain_module._Pretraining, "run", None)
    again = kdbench.train(settings(tmp_path / "again", "FT"))
    assert_same(Path(whole.folder), Path(again.folder))


def test_tables_and_trackers_read_such_a_run(tmp_path: Path) -> None:
    result = kdbench.train(settings(tmp_path, "AB", **{"LOG.TRACKERS": ["csv"]}))
    frame = kdbench.load_results(tmp_path)
    assert list(frame["epochs"]) == [3]
    (file,) = Path(result.folder).glob("*.csv")
    assert "phases" not in file.read_text(encoding="utf-8").splitlines()[0]
