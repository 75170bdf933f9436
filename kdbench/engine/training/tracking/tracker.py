"""What a tracker may be told of a run, and the registry of trackers that have names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from yacs.config import CfgNode

from kdbench import registry
from kdbench.config.files import flatten
from kdbench.config.load import to_dict
from kdbench.config.teachers import teacher_name
from kdbench.engine.result import RunResult
from kdbench.errors import ConfigError


@dataclass(frozen=True)
class TrackedRun:
    """A run that begins or goes on.

    Attributes:
        name: of its folder, which is the same whenever the run goes on.
        folder: of its files; it exists.
        config: the configuration, by dotted key.
        project: ``EXPERIMENT.PROJECT``.
        group: ``EXPERIMENT.NAME``, of a grid's run the grid's name; may be empty.
        tags: method, teacher and student, data set, seed and, unless it is the default, ``EXPERIMENT.TAG``.
        history: the lines of ``metrics.jsonl`` that are there already; empty for a new run.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    project: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    history: Sequence[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, cfg: CfgNode, folder: Path, history: Sequence[Mapping[str, Any]]) -> TrackedRun:
        """The run of a configuration in its folder."""
        node, experiment = cfg.DISTILLER, cfg.EXPERIMENT
        teacher = teacher_name(cfg)
        pair = f"{teacher} -> {node.STUDENT}" if teacher else node.STUDENT
        own = () if experiment.TAG == "default" else (experiment.TAG,)
        tags = (node.TYPE, pair, cfg.DATASET.TYPE, f"seed {experiment.SEED}", *own)
        config = {setting.key: setting.value for setting in flatten(to_dict(cfg), "")}
        lines = [dict(line) for line in history]
        return cls(folder.name, folder, config, experiment.PROJECT, experiment.NAME, tags, lines)


class Tracker:
    """Base of trackers; a callback is any object that has some of these methods.

    They are called in the main process alone, one after the other, and the run waits for them. A method that raises takes its
    tracker out of the run, with a warning; the run goes on.

    A tracker that has a method ``on_terms(step, terms)``, too, is told the loss terms of single steps, every
    ``LOG.TENSORBOARD_FREQ`` of them; the step counts through all epochs, from 0. A GPU is waited for each time.
    """

    #: the module that it takes, which is also what pip installs; empty for none
    requires: ClassVar[str] = ""

    def on_start(self, run: TrackedRun) -> None:
        """The run begins, or goes on: what it has evaluated before is in ``run.history``, and is not told again."""

    def on_epoch(self, line: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """An epoch was evaluated.

        Args:
            line: of ``metrics.jsonl``: ``epoch``, ``top1``, ``top5``, ``test_loss``, ``lr``, ``train`` (mean of each loss term)
                and, with a validation part, ``val_top1`` and ``val_top5``.
            timing: of ``timing.jsonl``: ``seconds``, ``data_seconds``, ``images_per_second``, peaks of memory in bytes.
        """

    def on_end(self, outcome: RunResult | BaseException) -> None:
        """The run is done, or ended by an error; one that was stopped (``RunStoppedError``) may go on later."""


trackers: registry.Registry[Callable[[], Any]] = registry.trackers


def register_tracker(name: str) -> Callable[[type], type]:
    """Class decorator: register a class for ``LOG.TRACKERS``; it is called without arguments, once for each run.

    Raises:
        KdbenchError: another class has that name.
    """

    def decorate(cls: type) -> type:
        if not cls.__module__.startswith("kdbench."):
            trackers.load()  # a name of kdbench's own is taken, whoever comes first
        trackers.add(name, cls)
        return cls

    return decorate


def check_callback(callback: object) -> None:
    """Refuse an object that would never be told anything.

    Raises:
        ConfigError: it has none of a tracker's methods, or is a class.
    """
    names = ("on_start", "on_terms", "on_epoch", "on_end")
    if isinstance(callback, type):
        raise ConfigError(f"callbacks=: {callback.__name__} is a class; give an object of it, {callback.__name__}()")
    if not any(callable(getattr(callback, name, None)) for name in names):
        raise ConfigError(f"callbacks=: {type(callback).__name__} has none of the methods {', '.join(names)}")


def plain_values(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of ``metrics.jsonl`` by name, loss terms as ``train/<term>``; without the epoch, and without what
    was trained before the first one."""
    terms = {f"train/{name}": float(value) for name, value in line.get("train", {}).items()}
    return {**{name: float(value) for name, value in line.items() if name not in ("epoch", "train", "phases")}, **terms}
