"""Tune a grid's methods: round by round all trials are asked for, run like any other run of the grid, and told."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, Protocol

from kdbench.bench.grids.grid import Cell, Grid, Range, Sweep
from kdbench.bench.grids.grid_record import earlier_record
from kdbench.bench.grids.state import clear_failures, read_states
from kdbench.bench.grids.tasks import Task, make_tasks
from kdbench.bench.results.tuning import shown_values
from kdbench.bench.running.sweep.contest import Contest, Trial, keyed
from kdbench.bench.running.sweep.planned import contests
from kdbench.bench.running.sweep.studies import Studies
from kdbench.engine.result import RunResult
from kdbench.errors import KdbenchError
from kdbench.random import derive_seed

log = logging.getLogger(__name__)


class Ended(Protocol):
    """What became of tasks: results by their numbers, reasons of failures by their labels."""

    by_task: dict[int, RunResult]
    failed: dict[str, str]


class Tuning:
    """The trials of a grid.

    Args:
        grid: resolved, with a sweep.
        folder: the grid's.
        prefix, processes: as of :func:`kdbench.bench.grids.tasks.make_tasks`.
        retry: run trials again that are recorded as failed.
        say: called with a line on each round and each choice.

    Raises:
        KdbenchError: Optuna is not installed, or its journal cannot be written.
    """

    def __init__(
        self, grid: Grid, folder: Path, prefix: str, processes: int, retry: bool, say: Callable[[str], None]
    ) -> None:
        assert grid.sweep is not None
        self.grid, self.sweep, self.folder, self.say = grid, grid.sweep, folder, say
        self.prefix, self.processes, self.retry = prefix, processes, retry
        self.studies = Studies(folder)
        told = earlier_record(folder).get("sweep", {"studies": []})["studies"]
        self.earlier: dict[tuple[str, str], dict[str, Any]] = {(one["pair"], one["method"]): one for one in told}
        with self.studies.held():
            self.contests = [self._contest(*place) for place in contests(grid)]

    def _contest(self, pair: str, label: str) -> Contest:
        sweep = self.sweep
        cells = [sweep.resolve(pair, label, seed, {}) for seed in sweep.seeds]
        keys = sorted(task.key for task in make_tasks(replace(self.grid, cells=cells), self.prefix, self.processes))
        name = f"{pair} / {label} / {_digest(sweep, label, keys)}"
        study = self.studies.study(name, sweep.spaces[label], sweep.sampler, derive_seed("sweep", pair, label))
        if self.retry and study.has_failures:
            study.forget()
        return Contest(sweep, pair, label, study)

    def run(self, carry_out: Callable[[Grid, list[Task], int], Ended], write: Callable[[Grid], None]) -> Grid:
        """All rounds; then the grid with its tuned cells.

        Args:
            carry_out: carries out the runs of a part of the grid, until all have ended; the number is that of the trials of each
                method that are then behind it.
            write: writes the record of the grid as it stands. Choices of an earlier command hold until their trials are judged
                anew, so that a grid to which pairs were added still shows what was tuned before.

        Raises:
            RunStoppedError: see :meth:`kdbench.bench.running.runner.Runner.run`.
        """
        each = self.sweep.trials // self.sweep.rounds
        for number in range(1, self.sweep.rounds + 1):
            self._round(number, number * each, carry_out, write)
        for contest in self.contests:
            self._tell_choice(contest)
        return self._with_choices(ended=True)

    def _round(
        self,
        number: int,
        count: int,
        carry_out: Callable[[Grid, list[Task], int], Ended],
        write: Callable[[Grid], None],
    ) -> None:
        asking = [contest for contest in self.contests if not contest.undecided]
        with self.studies.held():
            new = [(contest, trial) for contest in asking for trial in contest.ask(count)]
        part = replace(self.grid, cells=[cell for _, trial in new for cell in trial.cells], open=())
        tasks = make_tasks(part, self.prefix, self.processes)
        keys = keyed(tasks)
        for contest, trial in new:
            trial.keys = [keys[contest.pair, cell.method, cell.seed] for cell in trial.cells]
        if self.retry:
            clear_failures(self.folder, [task.key for task in tasks])
        runs = sum(not task.trains for task in tasks)
        turn = f", round {number} of {self.sweep.rounds}" if self.sweep.rounds > 1 else ""
        self.say(f"tuning{turn}: {len(new)} trials, {runs} run{'s' * (runs != 1)}")
        for contest in self.contests:
            contest.recall(self.earlier.get((contest.pair, contest.label), {}))
        write(self._with_choices(ended=False))
        ended = carry_out(part, tasks, count)
        self._judge(new, tasks, ended)
        with self.studies.held():
            for contest, trial in new:
                if not contest.undecided:
                    contest.study.tell(trial.number, trial.score)

    def _judge(self, new: Sequence[tuple[Contest, Trial]], tasks: list[Task], ended: Ended) -> None:
        results = {tasks[number].key: result for number, result in ended.by_task.items()}
        failed = {task.key: ended.failed[task.label] for task in tasks if task.label in ended.failed}
        states = read_states(self.folder)
        final = {key for key in failed if states.get(key, {}).get("status") == "failed"}
        for contest, trial in new:
            contest.judge(trial, results, failed, final)

    def _tell_choice(self, contest: Contest) -> None:
        head, chosen = f"{contest.pair} / {contest.label}", contest.chosen
        if chosen is None:
            self.say(f"{head}: {contest.reason}")
            return
        first = contest.trials[0].score
        own = "" if chosen.number == 1 or first is None else f"; the published values have {first:.2f}"
        remark = " (as published)" if chosen.number == 1 else ""
        self.say(
            f"{head}: trial {chosen.number} of {len(contest.trials)} is chosen, {chosen.score:.2f} on the validation part{own}: "
            f"{shown_values(chosen.values, contest.kind)}{remark}"
        )

    def noted(self) -> Grid:
        """The grid with what ``grid.json`` is to say of its trials so far."""
        sweep = self.sweep
        told = {"trials": sweep.trials, "seeds": list(sweep.seeds), "sampler": sweep.sampler, "rounds": sweep.rounds}
        told["studies"] = [contest.record() for contest in self.contests]
        keys = [key for contest in self.contests for trial in contest.trials for key in trial.keys]
        return replace(self.grid, tuning={"sweep": told, "trials": dict.fromkeys(keys, "")})

    def _with_choices(self, *, ended: bool) -> Grid:
        """The grid with the tuned cells whose values are chosen; once all trials have ended, the others say why theirs are not."""
        found = {(contest.pair, contest.label): contest for contest in self.contests}
        cells: list[Cell] = []
        left: list[tuple[Cell, str]] = []
        waiting = iter(self.grid.open)
        for cell in self.grid.cells:
            cells.append(cell)
            contest = found.get((cell.pair, cell.method))
            if contest is None:
                continue
            place, _ = next(waiting)
            try:
                if contest.chosen is None:
                    raise KdbenchError(contest.reason)
                cells.append(contest.cell(cell.seed))
            except KdbenchError as error:
                left.append((place, str(error) if ended else ""))
        return replace(self.noted(), cells=cells, open=tuple(left))


def _digest(sweep: Sweep, label: str, keys: list[str]) -> str:
    """What tells studies of one method and pair apart: its runs with the published values, the space, how it is searched."""
    space: Mapping[str, Any] = {
        key: astuple(values) if isinstance(values, Range) else list(values)
        for key, values in sweep.spaces[label].items()
    }
    search = [sweep.sampler, sweep.trials // sweep.rounds if sweep.sampler == "tpe" else 0]
    return hashlib.sha256(json.dumps([keys, sorted(space.items()), search]).encode()).hexdigest()[:12]
