"""One method on one pair: its trials, their scores on the validation part, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdbench.bench.grids.grid import Cell, Sweep, tuned_label
from kdbench.bench.grids.tasks import Task
from kdbench.bench.results.run_files import read_metrics
from kdbench.bench.running.sweep.studies import Asked, Study
from kdbench.engine.result import RunResult
from kdbench.errors import KdbenchError


@dataclass
class Trial:
    """One trial: the values that it tries (those of the first are the published ones), what is put over the method's own, its
    cells, one a seed, with the keys of their runs; then its score in percent, or why it failed."""

    number: int
    values: Mapping[str, Any]
    over: Mapping[str, Any]
    cells: list[Cell] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    score: float | None = None
    error: str = ""


class Contest:
    """The trials of one method on one pair.

    Args:
        sweep: the grid's.
        pair, label: of the method.
        study: where its trials are asked for.
    """

    def __init__(self, sweep: Sweep, pair: str, label: str, study: Study) -> None:
        self.sweep, self.pair, self.label, self.study = sweep, pair, label, study
        self.trials: list[Trial] = []
        #: why it is not decided, which another attempt may change
        self.undecided = ""
        first = sweep.resolve(pair, label, sweep.seeds[0], {})
        self.kind = str(first.cfg.DISTILLER.TYPE)
        self.published = {key: _at(first.cfg, key) for key in study.space}

    def ask(self, count: int) -> list[Trial]:
        """The trials up to this number; returns those that are new here."""
        new = [self._trial(asked) for asked in self.study.ask(count, self.published)[len(self.trials) :]]
        self.trials += new
        return new

    def _trial(self, asked: Asked) -> Trial:
        trial = Trial(asked.number, asked.values or self.published, asked.values)
        try:
            for seed in self.sweep.seeds:
                cell = self.sweep.resolve(self.pair, self.label, seed, asked.values)
                trial.cells.append(replace(cell, method=f"{self.label} (trial {asked.number})"))
        except KdbenchError as error:  # values that do not go together
            trial.cells, trial.error = [], str(error)
        return trial

    def recall(self, study: Mapping[str, Any]) -> None:
        """Take the scores that a record has of these very trials, if it has a choice among them, for those that are not judged yet;
        :meth:`judge` replaces them.

        Args:
            study: of an earlier record, as :meth:`record` makes it; may be empty.
        """
        if study.get("chosen") and [one["keys"] for one in study["trials"]] == [trial.keys for trial in self.trials]:
            for trial, one in zip(self.trials, study["trials"]):
                if trial.score is None and not trial.error:
                    trial.score = one["score"]

    def judge(self, trial: Trial, results: Mapping[str, RunResult], failed: Mapping[str, str], final: set[str]) -> None:
        """Note a trial's score, the mean of its runs' validation accuracies at the last epoch. Nothing here sees the test part.

        Args:
            trial: whose runs have ended.
            results: by the runs' keys.
            failed: reasons by the runs' keys.
            final: keys of runs whose failure is recorded; others are tried again by the next command.
        """
        trial.score = None
        for key in trial.keys:
            if key in failed and key not in final:
                self.undecided = f"trial {trial.number} did not run ({failed[key]}); the same command runs it again"
                return
        trial.error = trial.error or next((failed[key] for key in trial.keys if key in failed), "")
        if trial.error:
            return
        try:
            scores = [_validation_top1(results[key]) for key in trial.keys]
        except (OSError, ValueError, LookupError, TypeError) as error:
            self.undecided = f"trial {trial.number} has no validation accuracy that can be read ({error})"
            return
        trial.score = sum(scores) / len(scores)

    @property
    def chosen(self) -> Trial | None:
        """The trial of the highest score, of equal ones the first; None while it is not decided, or where every trial failed."""
        scored = [trial for trial in self.trials if trial.score is not None]
        if self.undecided or not scored or len(self.trials) < self.sweep.trials:
            return None
        return max(scored, key=lambda trial: trial.score or 0.0)

    @property
    def reason(self) -> str:
        """Why no values are chosen, once all trials have ended."""
        if self.chosen is not None:
            return ""
        first = next((trial.error for trial in self.trials if trial.error), "")
        return f"not tuned: {self.undecided or f'all {len(self.trials)} trials failed ({first})'}"

    def cell(self, seed: int) -> Cell:
        """The cell of a seed with the chosen values.

        Raises:
            ConfigError: they do not go together with this seed's configuration.
        """
        assert self.chosen is not None
        cell = self.sweep.resolve(self.pair, self.label, seed, self.chosen.over)
        return replace(cell, method=tuned_label(self.label))

    def record(self) -> dict[str, Any]:
        """What ``grid.json`` says of it."""
        trials = [{"values": dict(t.values), "keys": t.keys, "score": t.score, "error": t.error} for t in self.trials]
        chosen = self.chosen.number if self.chosen is not None else None
        return {"pair": self.pair, "method": self.label, "type": self.kind, "trials": trials, "chosen": chosen}


def keyed(tasks: list[Task]) -> dict[tuple[str, str, int], str]:
    """The key of each cell's run, by pair, method and seed."""
    return {(cell.pair, cell.method, cell.seed): task.key for task in tasks for cell in task.cells}


def validation_text(result: RunResult) -> str:
    """What is announced of a run of a trial; of its test accuracy nothing, which is not to be chosen by."""
    try:
        return f"validation top-1 {_validation_top1(result):.2f}"
    except (OSError, ValueError, LookupError, TypeError):  # the choice says what is wrong
        return "no validation top-1"


def _validation_top1(result: RunResult) -> float:
    """In percent, of the epoch whose weights the run leaves: the last, or with ``SOLVER.KEEP: best`` its best."""
    lines = read_metrics(result.folder)
    kept = [line for line in lines if line["epoch"] == result.kept_epoch] if result.kept_epoch is not None else lines
    return float(kept[-1]["val_top1"])


def _at(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg.get(part) if cfg is not None else None
    return cfg
