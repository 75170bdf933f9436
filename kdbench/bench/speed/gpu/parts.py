"""The parts of the measurement: how long each may take, and which are run beside each other."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.bench.speed.gpu.settings import Save, Settings

#: minutes for which the limits are meant
MINUTES = 6.0
_ROOM = "kdbench.bench.speed.gpu"


@dataclass(frozen=True)
class Part:
    """A part.

    Attributes:
        name: by which ``--only`` means it.
        title: on the page.
        function: module below this room, and function.
        limit: seconds of six minutes; with more or less time proportionately more or less.
        wave: parts of one wave are run beside each other, unless they are to be :attr:`alone`.
        split: ``methods`` (several processes, each with some), ``shapes`` (a process for each of :data:`SHAPES`), or nothing.
        timed: the function is told how many seconds it has.
    """

    name: str
    title: str
    function: tuple[str, str]
    limit: float
    wave: int
    split: str = ""
    timed: bool = False

    @property
    def alone(self) -> bool:
        """Whether its processes run one behind the other, as they measure time."""
        return self.timed or self.split == "shapes"

    def load(self) -> Callable[..., dict[str, Any]]:
        """The function; its module needs torch."""
        module, name = self.function
        found: Callable[..., dict[str, Any]] = getattr(importlib.import_module(f"{_ROOM}.{module}"), name)
        return found


PARTS = (
    Part("environment", "Environment", ("environment", "run"), 40, 0),
    Part("methods", "Captured steps, and the GPU against the CPU", ("checks.steps", "run"), 90, 0, split="methods"),
    Part("determinism", "Twice, and interrupted and resumed", ("checks.repeats", "run"), 90, 0, split="methods"),
    Part("ddp", "DDP in a group of one", ("checks.group", "run"), 60, 0),
    Part("small", "Speed, small images", ("rates.tables", "small"), 85, 1, timed=True),
    Part("large", "Speed, large images", ("rates.tables", "large"), 110, 2, timed=True),
    Part("profile", "Where a step's time goes", ("rates.profiles", "run"), 45, 3, split="shapes"),
    Part("compile", "torch.compile", ("rates.tables", "compiled"), 60, 4, timed=True),
)
#: of steps that are profiled
SHAPES = ("small, captured", "small, step by step", "large, captured")
NAMES = tuple(part.name for part in PARTS)


def part_named(name: str) -> Part:
    """The part of a name of :data:`NAMES`."""
    return next(part for part in PARTS if part.name == name)


def execute(part: Part, settings: Settings, folder: Path, seconds: float, shape: str, save: Save) -> dict[str, Any]:
    """Do a part's work in this process; what :data:`PARTS` names says what it returns."""
    function = part.load()
    if part.timed:
        return function(settings, folder, seconds)
    if part.split == "shapes":
        return function(settings, folder, save, shape)
    return function(settings, folder, save)
