"""Optuna's studies of a grid, in one journal file in the grid's folder.

What a study asks for is a function of its space, its seed and the scores of earlier rounds, and scores come from run folders. So
the journal saves no more than the drawing: where it is damaged, or a process died while it asked, the same trials are asked anew.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from kdbench.bench.grids.grid import Range, Space
from kdbench.config.values import as_tuple
from kdbench.errors import KdbenchError, StorageError
from kdbench.files import stored
from kdbench.random import derive_seed
from kdbench.records import set_aside

log = logging.getLogger(__name__)
JOURNAL, _LOCK = "sweep.journal", ".sweep.lock"
#: attribute of a trial that was asked for as a whole: its number and the values that it tries
_ASKED = "kdbench"
_DIGITS = 4  # of a number drawn from a range, so that a table shows what was run


@dataclass(frozen=True)
class Asked:
    """What a trial tries: its number, from 1, and values by key; the first has none of its own, and tries the published ones."""

    number: int
    values: Mapping[str, Any]


class Studies:
    """The studies of a grid's folder. Several processes may tune one grid: :meth:`held` is for one at a time.

    Args:
        folder: the grid's; it is made.

    Raises:
        KdbenchError: Optuna is not installed.
        StorageError: the journal cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import optuna
        except ImportError:
            raise KdbenchError("SWEEP needs optuna, which is not installed: pip install 'kdbench[sweep]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna: Any = optuna
        self.journal = folder / JOURNAL
        self._lock: Any = FileLock(folder / _LOCK)
        try:
            with stored(self.journal):
                folder.mkdir(parents=True, exist_ok=True)
            with self.held():
                self._storage = self._open()
        except NotImplementedError as error:
            raise StorageError(f"{folder} is on a file system that cannot lock files: {error}") from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """While no other process asks or tells.

        Raises:
            StorageError: the journal cannot be written.
        """
        with stored(self.journal), self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parts of Optuna that its authors call experimental
            yield

    def _open(self) -> Any:
        try:
            return self._load()
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever Optuna makes of a line that is none of its own
            set_aside(self.journal, f"{type(error).__name__}: {error}", "its trials are asked anew")
            return self._load()

    def _load(self) -> Any:
        if self.journal.is_file():
            content = self.journal.read_bytes()
            if not content.endswith(b"\n"):  # a process died while it wrote the last line
                os.truncate(self.journal, content.rfind(b"\n") + 1)
        storages = self._optuna.storages
        journal = getattr(storages, "journal", None)  # of Optuna 4 and later
        backend = storages.JournalFileStorage if journal is None else journal.JournalFileBackend
        # the lock of this object, which this process already has: that of a dead process is gone with it
        return storages.JournalStorage(backend(str(self.journal), lock_obj=self._lock))

    def study(self, name: str, space: Space, sampler: str, seed: int) -> Study:
        """The study of this name, begun where there is none; to be called while it is :meth:`held`.

        Args:
            name: the same for the same method, pair, space and configuration.
            space: values by key.
            sampler: ``random``, ``qmc`` or ``tpe``.
            seed: of its draws.
        """
        return Study(self._optuna, self._storage, name, space, sampler, seed)


class Study:
    """One method on one pair; see :meth:`Studies.study`."""

    def __init__(self, optuna: Any, storage: Any, name: str, space: Space, sampler: str, seed: int) -> None:
        self._optuna, self._storage, self.name, self.space = optuna, storage, name, space
        self.sampler, self.seed = sampler, seed
        self._distributions = {key: self._distribution(values) for key, values in space.items()}
        self._study = self._begin()
        if len(self.asked()) < len(self._study.get_trials(deepcopy=False)):
            self.forget()  # a process died while it asked

    def _begin(self) -> Any:
        return self._optuna.create_study(
            study_name=self.name, storage=self._storage, direction="maximize", load_if_exists=True
        )

    def forget(self) -> None:
        """Begin anew."""
        self._optuna.delete_study(study_name=self.name, storage=self._storage)
        self._study = self._begin()

    def asked(self) -> list[Asked]:
        """Its trials so far, in order."""
        noted = [trial.user_attrs.get(_ASKED) for trial in self._study.get_trials(deepcopy=False)]
        return [Asked(note["number"], note["values"]) for note in noted if note]

    @property
    def has_failures(self) -> bool:
        """Whether a trial was told to have failed."""
        failed = self._optuna.trial.TrialState.FAIL
        return any(trial.state == failed for trial in self._study.get_trials(deepcopy=False))

    def ask(self, count: int, published: Mapping[str, Any]) -> list[Asked]:
        """Its first ``count`` trials; those that it has not had yet are drawn.

        Args:
            count: how many.
            published: the method's own values by key, which the first trial tries.
        """
        for number in range(len(self.asked()) + 1, count + 1):
            self._study.sampler = self._new_sampler(number)
            if number == 1:
                own = {key: self._parameter(key, value) for key, value in published.items()}
                inside = {key: value for key, value in own.items() if value is not None}
                self._study.enqueue_trial(inside)
                trial = self._study.ask({key: self._distributions[key] for key in inside})
                values: dict[str, Any] = {}
            else:
                trial = self._study.ask(self._distributions)
                values = {key: self._value(key, drawn) for key, drawn in trial.params.items()}
            trial.set_user_attr(_ASKED, {"number": number, "values": values})
        return self.asked()[:count]

    def tell(self, number: int, score: float | None) -> None:
        """What came of a trial: its score, or None where it failed. One that was told before stays as it was."""
        trial = self._study.get_trials(deepcopy=False)[number - 1]
        if not trial.state.is_finished():
            if score is None:
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(trial.number, score)

    def _new_sampler(self, number: int) -> Any:
        """A sampler for one trial, whose draws do not depend on what this process has drawn before."""
        samplers = self._optuna.samplers
        if self.sampler == "qmc":  # one sequence, of which the study notes the place
            space = {key: found for key, found in self._distributions.items() if not found.single()}

            class Sequence(samplers.QMCSampler):  # type: ignore[misc, name-defined]
                """The sequence in the whole space from the first draw; Optuna's own learns the space from a finished trial."""

                def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
                    return space

            return Sequence(seed=self._seed32("sequence"), scramble=True)
        seed = self._seed32(number)
        if self.sampler == "tpe":  # a first round finds no scores, and draws at random
            return samplers.TPESampler(seed=seed, n_startup_trials=1)
        return samplers.RandomSampler(seed=seed)

    def _seed32(self, what: object) -> int:
        return derive_seed(self.seed, what) & 0xFFFFFFFF

    def _distribution(self, values: tuple[Any, ...] | Range) -> Any:
        kinds = self._optuna.distributions
        if not isinstance(
            values, Range
        ):  # by their places: Optuna stores no lists, and its sequence takes numbers alone
            last = len(values) - 1
            return (
                kinds.IntDistribution(0, last)
                if self.sampler == "qmc"
                else kinds.CategoricalDistribution(range(last + 1))
            )
        if values.whole:
            return kinds.IntDistribution(values.low, values.high, log=values.log, step=values.step or 1)
        return kinds.FloatDistribution(values.low, values.high, log=values.log, step=values.step)

    def _parameter(self, key: str, value: Any) -> Any:
        """What stands for a value in the study; None where it lies outside of the space."""
        values = self.space[key]
        if isinstance(values, Range):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            inside = number and (not values.whole or float(value).is_integer())
            return value if inside and self._distributions[key]._contains(value) else None
        return next((place for place, one in enumerate(values) if as_tuple(one) == as_tuple(value)), None)

    def _value(self, key: str, drawn: Any) -> Any:
        values = self.space[key]
        if not isinstance(values, Range):
            return values[drawn]
        if values.whole or values.step is not None:
            return drawn
        return min(max(float(f"{drawn:.{_DIGITS}g}"), values.low), values.high)
