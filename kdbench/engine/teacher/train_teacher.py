"""Making a teacher: the teacher of a configuration, trained on the data set before anything learns from it."""

from __future__ import annotations

from pathlib import Path

from yacs.config import CfgNode

from kdbench.config.load import load_config
from kdbench.engine.result import RunResult
from kdbench.engine.run import train
from kdbench.engine.training.trainer import Progress
from kdbench.errors import ConfigError


def train_teacher(cfg: CfgNode, *, linear_probe: bool = False, progress: Progress | None = None) -> RunResult:
    """Train ``DISTILLER.TEACHER`` on labels, with the options of ``TEACHER`` and everything else as ``cfg`` says.

    What distils from it names the file of the run, ``student.safetensors``, as ``TEACHER.WEIGHTS``.

    Args:
        cfg: from :func:`kdbench.load_config`.
        linear_probe: train the classifier alone, on a frozen backbone.
        progress: ``fn(epoch, step, steps)`` after every step.

    Returns:
        The run's result, in which the network is the student.

    Raises:
        ConfigError: no teacher is named, or a frozen backbone without weights.
        KdbenchError: as of :func:`kdbench.train`.
    """
    return train(teacher_config(cfg, linear_probe=linear_probe), progress=progress)


def teacher_config(cfg: CfgNode, *, linear_probe: bool = False) -> CfgNode:
    """The configuration that trains ``cfg``'s teacher; see :func:`train_teacher`."""
    if not cfg.DISTILLER.TEACHER:
        raise ConfigError("DISTILLER.TEACHER is empty: name the teacher to train (--teacher NAME)")
    if linear_probe and not cfg.TEACHER.WEIGHTS:
        raise ConfigError(
            "a linear probe needs a trained backbone: TEACHER.WEIGHTS is empty, set it to pretrained or a file"
        )
    made = cfg.clone()
    made.defrost()
    for key in cfg.STUDENT:
        made.STUDENT[key] = cfg.TEACHER[key]
    # A classifier for other classes is what a teacher's training replaces.
    made.STUDENT.HEAD = "reset"
    made.STUDENT.FREEZE = "backbone" if linear_probe else cfg.TEACHER.FREEZE
    fresh = load_config().clone()
    fresh.defrost()
    made.TEACHER = fresh.TEACHER
    made.DISTILLER = fresh.DISTILLER
    made.DISTILLER.STUDENT = cfg.DISTILLER.TEACHER
    for method in set(made) - set(fresh):
        del made[method]
    made.freeze()
    return made


def weights_of(result: RunResult) -> Path:
    """The file that a run's network was exported to."""
    return Path(result.folder) / "student.safetensors"
