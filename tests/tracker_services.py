"""W&B and MLflow for tests: the packages where they are installed, else stand-ins that keep what they are told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Wandb:
    """What a service would hold: settings and points by the id of a run."""

    def __init__(self) -> None:
        self.settings: dict[str, dict[str, Any]] = {}
        self.points: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.ends: dict[str, list[int]] = {}

    def init(self, **settings: Any) -> Any:
        name = settings["id"]
        self.settings[name] = settings
        points = self.points.setdefault(name, [])
        return SimpleNamespace(
            log=lambda values, step: points.append((step, values)),
            summary={},
            finish=lambda exit_code: self.ends.setdefault(name, []).append(exit_code),
        )


class MlflowClient:
    """MLflow's client over a store in memory."""

    experiments: dict[str, str] = {}
    runs: dict[str, Any] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def search_runs(self, experiments: list[str], query: str, max_results: int) -> list[Any]:
        tag, value = query.removeprefix("tags.`").removesuffix("'").split("` = '")
        return [run for run in self.runs.values() if run.data.tags.get(tag) == value][:max_results]

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        made = SimpleNamespace(
            info=SimpleNamespace(run_id=str(len(self.runs)), status="RUNNING", run_name=run_name),
            data=SimpleNamespace(tags=dict(tags), params={}),
            points=[],
        )
        self.runs[made.info.run_id] = made
        return made

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        self.runs[run].points.extend(metrics)
        self.runs[run].data.params |= {one.key: one.value for one in params}

    def get_metric_history(self, run: str, key: str) -> list[Any]:
        return [point for point in self.runs[run].points if point.key == key]

    def update_run(self, run: str, status: str) -> None:
        self.runs[run].info.status = status

    set_terminated = update_run

    def set_tag(self, run: str, key: str, value: str) -> None:
        self.runs[run].data.tags[key] = value


def wandb_records(content: bytes) -> Iterator[Any]:
    """The records of an offline file of the package: LevelDB's log behind seven bytes, in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    place, whole = 7, b""
    while len(content) - place >= 7:
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the record's only part, or its last
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def _module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    made.__dict__.update(content)
    return made


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    """A stand-in for the package."""
    made = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", _module("wandb", init=made.init, Settings=SimpleNamespace))
    return made


@pytest.fixture(params=["stand-in", "package"])
def mlflow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A client of an empty store, of the package or of a stand-in."""
    if request.param == "package":
        package = pytest.importorskip("mlflow")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        package.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
        yield package.tracking.MlflowClient()
        return

    def entity(*names: str) -> Any:
        return lambda *values: SimpleNamespace(**dict(zip(names, values)))

    client = type("MlflowClient", (MlflowClient,), {"experiments": {}, "runs": {}})
    entities = {"Metric": entity("key", "value", "timestamp", "step"), "Param": entity("key", "value")}
    for name, content in {
        "mlflow": {},
        "mlflow.tracking": {"MlflowClient": client},
        "mlflow.entities": entities,
        "mlflow.exceptions": {"MlflowException": RuntimeError},
    }.items():
        monkeypatch.setitem(sys.modules, name, _module(name, **content))
    yield client()
