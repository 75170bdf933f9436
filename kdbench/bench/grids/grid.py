"""A grid whose every cell is resolved to a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from yacs.config import CfgNode

from kdbench.config.load import to_dict
from kdbench.config.teachers import AND, each_teacher


@dataclass(frozen=True)
class Teacher:
    """A teacher of a grid: trained by the grid (``cfg``), or finished weights (``model``, ``weights``). One that is trained may
    learn from another teacher of the grid, ``above`` it (an assistant: Mirzadeh et al., AAAI 2020). Several of one student are a
    teacher with ``parts``."""

    name: str
    cfg: CfgNode | None = None
    model: str = ""
    weights: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    above: str = ""
    parts: tuple[Teacher, ...] = ()

    @property
    def each(self) -> tuple[Teacher, ...]:
        """Itself, or the several that it stands for."""
        return self.parts or (self,)

    @property
    def network(self) -> str:
        """Name of its network, those of several joined."""
        if self.parts:
            return AND.join(part.network for part in self.parts)
        return self.cfg.DISTILLER.STUDENT if self.cfg is not None else self.model


@dataclass(frozen=True)
class Cell:
    """One run of a grid. ``cfg`` misses the teacher's weights until the teacher is there; see :meth:`with_teacher`."""

    pair: str
    teacher: str
    student: str
    method: str
    seed: int
    cfg: CfgNode

    @property
    def label(self) -> str:
        """For progress lines."""
        return f"{self.method:<10} {self.pair}  seed {self.seed}"

    def with_teacher(self, teacher: Teacher | None, weights: str | Sequence[str]) -> CfgNode:
        """The configuration with the teacher's network and weights filled in."""
        return taught_by(self.cfg, teacher, weights)


def several(teachers: Sequence[Teacher]) -> Teacher:
    """Several teachers of one student as one."""
    return Teacher(AND.join(teacher.name for teacher in teachers), parts=tuple(teachers))


def taught_by(cfg: CfgNode, teacher: Teacher | None, weights: str | Sequence[str]) -> CfgNode:
    """A configuration with its teacher's network and weights filled in.

    Args:
        cfg: as the grid has it: its teacher is a name of the grid.
        teacher: that one; None leaves the configuration as it is.
        weights: of the teacher, or of each of several.
    """
    if teacher is not None and teacher.parts:
        files = [weights] * len(teacher.parts) if isinstance(weights, str) else weights
        own = zip(cfg.DISTILLER.TEACHERS, each_teacher(cfg), teacher.parts, files, strict=True)
        entries = [(entry, taught_by(one, part, file)) for entry, one, part, file in own]
        keys = ("WEIGHTS", "OPTIONS", "INPUT_SIZE")
        cfg = cfg.clone()
        cfg.defrost()
        cfg.DISTILLER.TEACHERS = tuple(
            {**entry, "MODEL": one.DISTILLER.TEACHER, **{key: to_dict(one.TEACHER[key]) for key in keys}}
            for entry, one in entries
        )
        cfg.freeze()
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    if teacher is not None:
        source = teacher.cfg
        cfg.DISTILLER.TEACHER = source.DISTILLER.STUDENT if source is not None else teacher.model
        cfg.TEACHER.WEIGHTS = weights
        if source is not None:
            cfg.TEACHER.OPTIONS = source.STUDENT.OPTIONS.clone()
            cfg.TEACHER.INPUT_SIZE = source.STUDENT.INPUT_SIZE
    cfg.freeze()
    return cfg


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones where both are. ``log``: uniform in the logarithm; ``step``: how
    far apart they lie."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return all(isinstance(bound, int) for bound in (self.low, self.high))


#: values by key: those of a list, or those of a range
Space = Mapping[str, "tuple[Any, ...] | Range"]


@dataclass(frozen=True)
class Sweep:
    """How a grid tunes its methods: ``trials`` for each method and pair, in ``rounds``, each trained with ``seeds``.

    Attributes:
        spaces: of the methods that are tuned, by label, with the full names of keys.
        resolve: the cell of (pair, label, seed) with these values put over its method's own.
    """

    trials: int
    seeds: tuple[int, ...]
    sampler: str
    rounds: int
    spaces: Mapping[str, Space]
    resolve: Callable[[str, str, int, Mapping[str, Any]], Cell]


@dataclass(frozen=True)
class Published:
    """A cell's figure as its authors print it: top-1 in percent, and where it stands."""

    top1: float
    source: str


_TUNED = " (tuned)"


def tuned_label(label: str) -> str:
    """Of a method with the values that its trials chose."""
    return f"{label}{_TUNED}"


def is_tuned_label(label: str) -> bool:
    """Whether :func:`tuned_label` made it."""
    return label.endswith(_TUNED)


@dataclass(frozen=True)
class Grid:
    """A resolved grid. ``open`` are cells whose values the trials have not chosen (yet), with the reason where that is an error:
    they have their own label, and the published configuration. ``tuning`` is what ``grid.json`` says of the trials. ``published``:
    known answers by pair and label."""

    name: str
    teachers: dict[str, Teacher]
    cells: list[Cell]
    methods: list[str]
    pairs: list[str]
    baseline: str
    #: modules and files that its own files import, for other processes
    imports: tuple[str, ...] = ()
    sweep: Sweep | None = None
    open: tuple[tuple[Cell, str], ...] = ()
    tuning: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[tuple[str, str], Published] = field(default_factory=dict)
