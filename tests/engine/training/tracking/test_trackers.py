"""The trackers that come along: whole after a run was ended and went on, each point once."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tiny_run import settings
from tracker_services import mlflow, wandb, wandb_records  # noqa: F401 - fixtures

import kdbench
from kdbench.errors import RunStoppedError


def run_in_two(tmp_path, after: int, **extra):
    """Four epochs, ended by an error behind ``after``, then by the same command."""

    def stop(epoch, step, steps):
        if epoch == after + 1 and step == 2:
            raise RunStoppedError("enough")

    with pytest.raises(RunStoppedError):
        kdbench.train(settings(tmp_path, 4, **extra), progress=stop)
    return kdbench.train(settings(tmp_path, 4, **extra))


def lose_checkpoint(folder: Path) -> None:
    """As where a process was killed behind its last telling and before it had saved."""
    for file in folder.glob("checkpoint*.pt"):
        file.unlink()


def ended(tmp_path, **extra) -> Path:
    """The folder of a run that was ended in its third epoch."""

    def stop(epoch, step, steps):
        if epoch == 3:
            raise RunStoppedError("enough")

    with pytest.raises(RunStoppedError):
        kdbench.train(settings(tmp_path, 4, **extra), progress=stop)
    return next(file.parent for file in tmp_path.glob("*/config.yaml"))


def test_csv_is_whole_after_a_resume(tmp_path):
    whole = kdbench.train(settings(tmp_path / "a", 4, **{"LOG.TRACKERS": ["csv"]}))
    parts = run_in_two(tmp_path / "b", 2, **{"LOG.TRACKERS": ["csv"]})
    files = [(Path(result.folder) / "metrics.csv").read_text() for result in (whole, parts)]
    assert files[0] == files[1]
    rows = list(csv.DictReader(files[0].splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["top1"]) == whole.top1_last
    assert set(rows[0]) == {"epoch", "top1", "top5", "test_loss", "lr", "train/ce"}


def test_csv_begins_anew_with_its_run(tmp_path):
    folder = ended(tmp_path, **{"LOG.TRACKERS": ["csv"]})
    lose_checkpoint(folder)
    kdbench.train(settings(tmp_path, 4, **{"LOG.TRACKERS": ["csv"]}))
    assert [line.split(",")[0] for line in (folder / "metrics.csv").read_text().splitlines()[1:]] == [
        "1",
        "2",
        "3",
        "4",
    ]


@pytest.mark.parametrize("key", [{"LOG.TENSORBOARD": True}, {"LOG.TRACKERS": "tensorboard"}])
@pytest.mark.parametrize("lost", [False, True])
def test_tensorboard_has_each_point_once(tmp_path, key, lost):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    extra = {**key, "LOG.TENSORBOARD_FREQ": 1}
    folder = ended(tmp_path, **extra)
    if lost:
        lose_checkpoint(folder)
    kdbench.train(settings(tmp_path, 4, **extra))
    found = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in found.Scalars("eval/top1")] == [1, 2, 3, 4]
    assert sorted(event.step for event in found.Scalars("train/ce")) == list(range(12))


@pytest.mark.parametrize("lost", [False, True])
def test_wandb_goes_on_with_the_same_run(tmp_path, wandb, lost):  # noqa: F811
    extra = {"LOG.TRACKERS": "wandb", "EXPERIMENT.NAME": "my_grid", "EXPERIMENT.PROJECT": "mine"}

    def stop(epoch, step, steps):
        if epoch == 3:
            raise RunStoppedError("enough")

    with pytest.raises(RunStoppedError):
        kdbench.train(settings(tmp_path, 4, **extra), progress=stop)
    (name,) = wandb.points
    assert wandb.ends == {name: [1]}
    if lost:
        lose_checkpoint(next(file.parent for file in tmp_path.glob("*/*/config.yaml")))
    result = kdbench.train(settings(tmp_path, 4, **extra))
    assert list(wandb.points) == [name]
    assert [step for step, _ in wandb.points[name]] == [1, 2, 3, 4]
    assert wandb.ends == {name: [1, 0]}
    assert wandb.points[name][-1][1]["top1"] == result.top1_last
    given = wandb.settings[name]
    assert (given["name"], given["project"], given["group"]) == (result.run_id, "mine", "my_grid")
    assert given["tags"] == ["Vanilla", "small_cnn", "fake", "seed 1"]
    assert given["config"]["SOLVER.EPOCHS"] == 4


def test_wandb_offline(tmp_path, monkeypatch):
    package = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = run_in_two(tmp_path, 2, **{"LOG.TRACKERS": "wandb"})
    package.teardown()
    files = sorted(Path(result.folder).glob("wandb/offline-run-*/*.wandb"))
    assert {file.stem for file in files} == {f"run-{result.run_id}"}
    records = [record for file in files for record in wandb_records(file.read_bytes())]
    assert [record.history.step.num for record in records if record.HasField("history")] == [1, 2, 3, 4]


@pytest.mark.parametrize("lost", [False, True])
def test_mlflow_goes_on_with_the_same_run(tmp_path, mlflow, lost):  # noqa: F811
    extra = {"LOG.TRACKERS": "mlflow", "EXPERIMENT.NAME": "my_grid", "EXPERIMENT.PROJECT": "mine"}

    def stop(epoch, step, steps):
        if epoch == 3:
            raise RunStoppedError("enough")

    with pytest.raises(RunStoppedError):
        kdbench.train(settings(tmp_path / "runs", 4, **extra), progress=stop)
    experiment = mlflow.get_experiment_by_name("mine").experiment_id

    def the_run():
        (run,) = mlflow.search_runs([experiment], "tags.`group` = 'my_grid'", max_results=5)
        return run

    assert the_run().info.status == "KILLED"
    if lost:
        lose_checkpoint(next(file.parent for file in tmp_path.glob("runs/*/*/config.yaml")))
    result = kdbench.train(settings(tmp_path / "runs", 4, **extra))
    run = the_run()
    assert (run.info.status, run.info.run_name) == ("FINISHED", result.run_id)
    assert run.data.tags["kdbench.folder"] == result.run_id
    assert run.data.tags["tag 4"] == "seed 1"
    assert run.data.params["SOLVER.EPOCHS"] == "4"
    points = mlflow.get_metric_history(run.info.run_id, "top1")
    assert [point.step for point in points] == [1, 2, 3, 4]
    assert points[-1].value == result.top1_last
