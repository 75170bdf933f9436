"""The runs that a grid needs, each with the key that names it; :mod:`kdbench.bench.running.run_task` carries one out.

Nothing here imports torch by itself: :func:`make_tasks` does, for the code and the keys of its runs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from kdbench.bench.grids.grid import Cell, Grid, Teacher, taught_by
from kdbench.catalogue import SIZES
from kdbench.config.identity import beyond, decisive
from kdbench.config.load import to_dict
from kdbench.config.teachers import AND
from kdbench.config.values import epoch_length
from kdbench.engine.identity.brought import brought_code
from kdbench.files import write_atomically
from kdbench.paths import expanded


@dataclass
class Task:
    """A teacher's run, or that of one or more cells with the same configuration.

    ``key`` names it within the grid's folder: a hash of its configuration and its teacher's, known before the teacher is, of the
    code that the user brought, and of the number of processes, where there are several. ``code`` are the digests of that code.
    """

    label: str
    cfg: CfgNode
    key: str
    cells: list[Cell] = field(default_factory=list)
    teacher: Teacher | None = None
    trains: str = ""  # name of the teacher that this task makes
    code: dict[str, str] = field(default_factory=dict)

    def config(self, weights: str | Sequence[str] = "") -> CfgNode:
        """The run's configuration with its teacher's network and these weights filled in, of several teachers those of each."""
        return taught_by(self.cfg, self.teacher, weights)

    @property
    def asked(self) -> dict[str, Any]:
        """What the result of its run says of itself, see :data:`kdbench.bench.grids.asked.FACTS`."""
        node, named = self.cfg.DISTILLER, self.cfg.DISTILLER.TEACHER if self.trains else ""
        return {
            "method": node.TYPE,
            "teacher": named if self.teacher is None else self.teacher.network,
            "student": node.STUDENT,
            "dataset": self.cfg.DATASET.TYPE,
            "seed": self.cfg.EXPERIMENT.SEED,
        }

    @property
    def samples(self) -> int:
        """Images that the run trains on, without those held out; 0 where that is not known. Of a folder, its files."""
        node = self.cfg.DATASET
        classes, _, count = SIZES.get(node.TYPE.casefold(), (0, 0, 0))
        if node.TYPE.casefold() == "fake":
            count = node.OPTIONS.get("train", 256)
        kind, _, place = node.TYPE.partition(":")
        if kind.casefold() == "folder":
            classes, count = _files_below(expanded(place))
        if node.PER_CLASS:
            count = min(count, node.PER_CLASS * classes)
        return int(count * (1 - node.VAL_FRACTION))

    @property
    def epoch_length(self) -> int:
        """Training images that the run sees in an epoch; 0 where the data set's size is not known."""
        node = self.cfg.DATASET
        return epoch_length(self.samples * node.REPEAT, node.AUG_REPEATS)

    @property
    def images(self) -> int:
        """Training images that the run sees, all epochs together; 0 where the data set's size is not known."""
        return self.epoch_length * self.cfg.SOLVER.EPOCHS


@functools.lru_cache(maxsize=64)
def _files_below(place: str) -> tuple[int, int]:
    """Folders below ``train`` of a folder of images, and the files in them; zeros where there are none."""
    try:
        classes = [entry.path for entry in os.scandir(os.path.join(place, "train")) if entry.is_dir()]
        return len(classes), sum(entry.is_file() for folder in classes for entry in os.scandir(folder))
    except OSError:
        return 0, 0


def make_tasks(grid: Grid, prefix: str, processes: int = 1) -> list[Task]:
    """Teachers' runs, then cells; cells of equal configuration (a student alone, under two teachers' rows) share one.

    Args:
        grid: resolved.
        prefix: folder above the grid's own.
        processes: of each run; more than one are part of what a run is.

    Raises:
        UnknownNameError: a method, network or data set is not registered.
        ModelError: the weights file of a teacher cannot be read.
    """
    keys: dict[str, str] = {}
    tasks: list[Task] = []
    for teacher in used_teachers(grid):
        name, above = teacher.name, grid.teachers.get(teacher.above)
        code = {} if teacher.cfg is None else brought_code(teacher.cfg, "" if above is None else above.model)
        keys[name] = _teacher_key(teacher, code, processes)
        if above is not None:
            keys[name] = _key([keys[name], keys[above.name]])
        if teacher.cfg is not None:
            cfg = placed(teacher.cfg, prefix, grid.name)
            tasks.append(Task(f"teacher {name}", cfg, keys[name], teacher=above, trains=name, code=code))
    by_key: dict[str, Task] = {}
    for cell in grid.cells:
        teacher_of = grid.teachers.get(cell.teacher)
        each = () if teacher_of is None else teacher_of.each
        code = brought_code(cell.cfg, AND.join(one.model for one in each))
        own = [keys[one.name] for one in each]
        key = _key([*_identity(cell.cfg, code, processes), own if len(own) > 1 else "".join(own)])
        if key not in by_key:
            by_key[key] = Task(cell.label, placed(cell.cfg, prefix, grid.name), key, teacher=teacher_of, code=code)
            tasks.append(by_key[key])
        by_key[key].cells.append(cell)
    return tasks


def used_teachers(grid: Grid) -> list[Teacher]:
    """The teachers of a grid's cells and those above them, each behind the one that it learns from."""
    found: dict[str, Teacher] = {}

    def add(name: str) -> None:
        for one in grid.teachers[name].each if name else ():
            if one.name not in found:
                add(one.above)
                found[one.name] = one

    used = {cell.teacher for cell in grid.cells}
    for name in grid.teachers:
        if name in used:
            add(name)
    return list(found.values())


def placed(cfg: CfgNode, prefix: str, name: str) -> CfgNode:
    """The configuration with the folder into which its run goes."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.LOG.PREFIX, cfg.EXPERIMENT.NAME = prefix, name
    cfg.freeze()
    return cfg


def write_configs(tasks: list[Task], folder: str | Path) -> list[Path]:
    """Write each run's resolved configuration, as ``kdbench train --cfg`` takes it; returns the files.

    Weights of a teacher that the grid itself trains are not known yet: the first line says so.
    """
    files = []
    for task in tasks:
        cfg, remark = task.cfg, f"# {task.label}"
        if task.teacher is not None:
            cfg = task.config(
                [one.weights for one in task.teacher.each] if task.teacher.parts else task.teacher.weights
            )
            for one in task.teacher.each:
                if not one.weights:
                    remark += f"; TEACHER.WEIGHTS: the student.safetensors that the run of teacher {one.name} will make"
        file = Path(folder) / f"{re.sub(r'[^A-Za-z0-9_+.-]+', '_', task.label)}-{task.key[:6]}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, f"{remark}\n{yaml.safe_dump(to_dict(cfg), sort_keys=False)}")
        files.append(file)
    return files


def _teacher_key(teacher: Teacher, code: Mapping[str, str], processes: int) -> str:
    if teacher.cfg is not None:
        return _key(_identity(teacher.cfg, code, processes))
    weights = teacher.weights
    if Path(weights).is_file():
        from kdbench.models.weights.read import file_sha256

        weights = file_sha256(weights)
    return _key([teacher.model, weights, to_dict(teacher.settings)])


def _identity(cfg: CfgNode, code: Mapping[str, str], processes: int) -> list[Any]:
    # weights that the configuration itself names do tell runs apart
    named = [decisive(cfg), cfg.STUDENT.WEIGHTS, cfg.TEACHER.WEIGHTS]
    named += [entry.get("WEIGHTS", "") for entry in cfg.DISTILLER.TEACHERS]
    return [named, *beyond(cfg, code, processes)]


def _key(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
