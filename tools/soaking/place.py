"""Where one process of the soak works: folders of cases, and what the same commands leave undisturbed."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import interrupted_runs
import torch
from each_method import short
from tiny_run import content

from soaking.child import Ended, command, ended

Made = TypeVar("Made")
_TEACHER = {"DISTILLER.TEACHER": "small_cnn", "TEACHER.OPTIONS.widths": [12, 16, 24], "RUNTIME.DEVICE": "cpu"}


class BrokenSoakError(Exception):
    """What ought to go well without any accident does not."""


class Calm(NamedTuple):
    """A run that nothing disturbed: its folder, its metrics and student, the seconds that it took."""

    folder: Path
    content: list[bytes]
    seconds: float


class Place:
    """A folder of one process of the soak.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers = itertools.count()
        self._made: dict[Any, Any] = {}

    @contextlib.contextmanager
    def case(self) -> Iterator[Path]:
        """A folder for one case, which is deleted after it."""
        folder = self.root / f"case{next(self._numbers)}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def once(self, key: Any, make: Callable[[Path], Made]) -> Made:
        """What ``make(folder)`` returned at the first call with this key."""
        if key not in self._made:
            folder = self.root / f"made{next(self._numbers)}"
            folder.mkdir(parents=True)
            self._made[key] = make(folder)
        return self._made[key]

    def calm(self, method: str, **extra: Any) -> Calm:
        """The undisturbed run of a method."""

        def make(folder: Path) -> Calm:
            done = ended(command(*train(folder, method, **extra)))
            expect_done(done)
            run = run_in(folder)
            return Calm(run, content(run), done.seconds)

        return self.once((method, *sorted(map(str, extra.items()))), make)


@functools.cache
def trained_methods() -> tuple[str, ...]:
    """Every method that the networks of these runs have: others need another pair (a distillation token, equal widths)."""
    from kdbench.distillers.base import DataInfo
    from kdbench.distillers.create import judge_methods
    from kdbench.models.zoo import create_model

    settings = interrupted_runs.SETTINGS
    student = create_model(settings["DISTILLER.STUDENT"], num_classes=10)
    teacher = create_model(_TEACHER["DISTILLER.TEACHER"], num_classes=10, widths=_TEACHER["TEACHER.OPTIONS.widths"])
    count, side = (settings["DATASET.OPTIONS"][name] for name in ("train", "size"))
    info = DataInfo(10, count, torch.arange(count) % 10, side)
    return tuple(name for name, why in judge_methods(student.spec, teacher.spec, info).items() if not why)


def train(folder: Path, method: str, **extra: Any) -> list[str]:
    """Words of the command that trains three epochs of six steps below ``folder``, after one of each first phase."""
    teacher = {} if method == "Vanilla" else _TEACHER
    settings = {**interrupted_runs.SETTINGS, "LOG.PREFIX": folder, "DISTILLER.TYPE": method, **teacher, **short(method)}
    settings |= extra
    return ["train", *(f"{key}={value}" for key, value in settings.items())]


def run_in(folder: Path) -> Path:
    """The one folder of a run below ``folder``."""
    return next(folder.rglob("config.yaml")).parent


def difference(folder: Path, expected: list[bytes]) -> str:
    """What of a finished run below ``folder`` is not as expected; "" for nothing."""
    try:
        found = content(run_in(folder))
    except (OSError, StopIteration) as error:
        return f"the finished run is not there: {error!r}"
    names = [name for name, a, b in zip(("metrics.jsonl", "student.safetensors"), found, expected) if a != b]
    return f"{' and '.join(names)} differ from those of the undisturbed run" if names else ""


def expect_done(done: Ended) -> None:
    """Make sure that an undisturbed command went well.

    Raises:
        BrokenSoakError: it did not.
    """
    if done.code != 0:
        raise BrokenSoakError(f"a command that nothing disturbed ended with {done.code}: {done.err[-2000:]}")
