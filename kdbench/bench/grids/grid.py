"""A grid whose every cell is resolved to a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from yacs.config import CfgNode


@dataclass(frozen=True)
class Teacher:
    """A teacher of a grid: trained by the grid (``cfg``), or finished weights (``model``, ``weights``)."""

    name: str
    cfg: CfgNode | None = None
    model: str = ""
    weights: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """Name of its network."""
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

    def with_teacher(self, teacher: Teacher | None, weights: str) -> CfgNode:
        """The configuration with the teacher's network and weights filled in."""
        cfg = self.cfg.clone()
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
class Grid:
    """A resolved grid."""

    name: str
    teachers: dict[str, Teacher]
    cells: list[Cell]
    methods: list[str]
    pairs: list[str]
    baseline: str
    #: modules and files that its own files import, for other processes
    imports: tuple[str, ...] = ()
