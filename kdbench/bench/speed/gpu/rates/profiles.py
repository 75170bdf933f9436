"""A run's steps: without a profiler, under it, and with PyTorch's warnings of waiting; and an epoch's wait for data."""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from kdbench.bench.speed.gpu.checks.runs import tiny
from kdbench.bench.speed.gpu.rates.candidate import synchronize
from kdbench.bench.speed.gpu.rates.tables import HALF, Specs
from kdbench.bench.speed.gpu.rates.trace import read_trace
from kdbench.bench.speed.gpu.settings import Save, Settings, in_a_line
from kdbench.config.load import load_config
from kdbench.engine.run import train
from kdbench.engine.runtime import start_runtime

#: steps under the profiler, whose traces are large, at least; whole chunks of the loader
_TRACED = 16
#: where CUPTI is sound with CUDA graphs; for older versions what PyTorch's inductor sets
_SOUND, _CUPTI = (12, 6), {"DISABLE_CUPTI_LAZY_REINIT": "1", "TEARDOWN_CUPTI": "0"}


def run(settings: Settings, folder: Path, save: Save, shape: str) -> dict[str, Any]:
    """One row of KD in bfloat16 and channels_last, in a process of its own: CUDA graphs that were recorded before the profiler was
    begun have hung or crashed with some versions of CUPTI.

    Args:
        settings: device and pairs.
        folder: for files.
        save: takes the row as far as it has come.
        shape: one of :data:`~kdbench.bench.speed.gpu.parts.SHAPES`.

    Returns:
        ``rows`` with one row: ``name``, ``data_share`` (of an epoch's time the part in which the host waited for data), ``step_ms``
        (without the profiler), ``warned`` (waits of which PyTorch warns, per step), what
        :func:`~kdbench.bench.speed.gpu.rates.trace.read_trace` gives, ``busy`` (``busy_ms`` / ``step_ms``). Without a GPU the first
        two alone, or ``missing``; with ``error`` what came before it.
    """
    row: dict[str, Any] = {"name": shape}
    found = {"rows": [row]}
    which, _, how = shape.partition(", ")
    if how == "captured" and not settings.is_gpu:
        row["missing"] = "takes a GPU"
        return found
    if torch.version.cuda and tuple(map(int, torch.version.cuda.split(".")[:2])) < _SOUND:
        os.environ |= _CUPTI
    start_runtime(tiny("KD", settings.device, folder, ""))  # sets what cuBLAS reads at its start, which the teacher is
    make = Specs(settings, getattr(settings, which), folder, readings=1)
    spec = make.runs({**HALF, "GRAPH": "auto" if how == "captured" else "off"})
    try:
        row["data_share"] = _data_share(spec["runs"][0], folder)
        save(found)
        chunk = make.pair.together(spec["batch"])
        counts = (spec["before"], spec["steps"], min(spec["steps"], -(-_TRACED // chunk) * chunk))
        watch = Watch(torch.device(settings.device), counts, folder, row, lambda: save(found))
        with contextlib.suppress(Enough):
            train(load_config(overrides=spec["runs"][0]), progress=watch)
    except Exception as error:  # noqa: BLE001 - a finding
        row["error"] = in_a_line(error)
    return found


class Enough(BaseException):
    """All was seen; the run need not go on."""


class Watch:
    """Progress of a run that measures an epoch's steps: in the first epoch their time, in the second one their warnings of waiting,
    in the third some under the profiler; then it ends the run.

    Args:
        device: that computes.
        counts: steps of an epoch before what is measured, in it, and under the profiler.
        folder: for the trace.
        found: takes what is seen.
        save: called after each epoch.
    """

    def __init__(
        self,
        device: torch.device,
        counts: tuple[int, int, int],
        folder: Path,
        found: dict[str, Any],
        save: Callable[[], None],
    ) -> None:
        self.device, self.folder, self.found, self.save = device, folder, found, save
        self.start, self.steps, self.traced = counts
        self._began = 0.0
        self._within: Any = None
        self._warned: list[warnings.WarningMessage] = []

    def __call__(self, epoch: int, step: int, steps: int) -> None:
        """After a step."""
        if step == self.start:
            synchronize(self.device)
            (self._time, self._listen, self._trace)[epoch - 1]()
        elif step == self.start + (self.traced if epoch == 3 else self.steps):
            (self._timed, self._listened, self._traced)[epoch - 1]()
            self.save()
            if epoch == 3 or self.device.type != "cuda":
                raise Enough

    def _time(self) -> None:
        self._began = time.perf_counter()

    def _timed(self) -> None:
        synchronize(self.device)
        self.found["step_ms"] = 1e3 * (time.perf_counter() - self._began) / self.steps

    def _listen(self) -> None:
        self._within = warnings.catch_warnings(record=True)
        self._warned = self._within.__enter__()
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")

    def _listened(self) -> None:
        torch.cuda.set_sync_debug_mode("default")
        self._within.__exit__(None, None, None)
        waits = [warning for warning in self._warned if "synchronizing" in str(warning.message)]
        self.found["warned"] = len(waits) / self.steps

    def _trace(self) -> None:
        self._within = profile(activities=[ProfilerActivity.CUDA])
        self._within.start()

    def _traced(self) -> None:
        synchronize(self.device)
        self._within.stop()
        file = self.folder / "trace.json"
        self._within.export_chrome_trace(str(file))
        seen = read_trace(json.loads(file.read_text(encoding="utf-8"))["traceEvents"], self.traced)
        if not seen["kernels"]:
            self.found["error"] = "the profiler's trace holds no kernels"
            return
        self.found.update(seen, busy=seen["busy_ms"] / self.found["step_ms"])


def _data_share(settings: dict[str, Any], folder: Path) -> float:
    """Of the second epoch of an undisturbed run."""
    epochs = {"SOLVER.EPOCHS": 2, "SOLVER.EVAL_EVERY": 1, "LOG.PREFIX": str(folder / "undisturbed")}
    result = train(load_config(overrides={**settings, **epochs}))
    last = json.loads(Path(result.folder, "timing.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return float(last["data_seconds"] / last["seconds"])
