"""A run of MLflow, in the store that ``MLFLOW_TRACKING_URI`` names, else in MLflow's own choice in the working directory."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from kdbench.engine.result import RunResult
from kdbench.engine.training.tracking.tracker import TrackedRun, Tracker, plain_values, register_tracker
from kdbench.errors import RunStoppedError

_TAG = "kdbench.folder"  # by which a run that goes on finds itself
_ODD = re.compile(r"[^\w\-. :/]")  # what no name of a metric may hold
_AT_ONCE, _LONGEST = 100, 500  # parameters of one request, letters of a value


@register_tracker("mlflow")
class MlflowRun(Tracker):
    """A run in the experiment of the project's name, found again by its folder's name. The epoch is the step; epochs that the store
    has are not told again, and those that it lacks are."""

    requires = "mlflow"

    def on_start(self, run: TrackedRun) -> None:
        """Begin it there, or go on with it; tell what it has not heard."""
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient()
        experiment = _experiment(self._client, run.project or "kdbench")
        found = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{run.name}'", max_results=1)
        if found:
            self._id: str = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._begin(experiment, run)
        self._known = {point.step for point in self._client.get_metric_history(self._id, "top1")}
        for line in run.history:
            self.on_epoch(line, {})

    def _begin(self, experiment: str, run: TrackedRun) -> None:
        from mlflow.entities import Param

        tags = {_TAG: run.name, "group": run.group} | {f"tag {n}": tag for n, tag in enumerate(run.tags, 1)}
        self._id = self._client.create_run(
            experiment, run_name=run.name, tags={key: value for key, value in tags.items() if value}
        ).info.run_id
        params = [Param(_ODD.sub("_", key), str(value)[:_LONGEST]) for key, value in run.config.items()]
        for first in range(0, len(params), _AT_ONCE):
            self._client.log_batch(self._id, params=params[first : first + _AT_ONCE])

    def on_epoch(self, line: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """A point of each curve."""
        from mlflow.entities import Metric

        epoch = line["epoch"]
        if epoch in self._known:
            return
        times = {name: timing[name] for name in ("seconds", "images_per_second") if name in timing}
        values = {**plain_values(line), **times}
        now = int(1000 * time.time())
        points = [Metric(_ODD.sub("_", name), float(value), now, epoch) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=points)
        self._known.add(epoch)

    def on_end(self, outcome: RunResult | BaseException) -> None:
        """That it is done, failed, or was stopped."""
        status = "FINISHED"
        if not isinstance(outcome, RunResult):
            status = "KILLED" if isinstance(outcome, (RunStoppedError, KeyboardInterrupt)) else "FAILED"
            self._client.set_tag(self._id, "error", str(outcome)[:_LONGEST])
        self._client.set_terminated(self._id, status)


def _experiment(client: Any, name: str) -> str:
    """The id of the experiment of that name, which another process may make at the same time."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)
