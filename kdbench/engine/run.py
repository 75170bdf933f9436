"""``train`` and ``evaluate``: one run from a configuration to a folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench.data.build import build_data
from kdbench.data.malloc import tune_malloc
from kdbench.data.source import DataSource
from kdbench.distillers.create import uses_teacher
from kdbench.engine.build import build_distiller, build_network, evaluation_options, make_loader
from kdbench.engine.evaluation import Score, score
from kdbench.engine.gate import check_gate
from kdbench.engine.identity import canonical, identity, run_name, weights_identity
from kdbench.engine.run_folder import RunFolder, write_atomically
from kdbench.engine.runtime import Runtime, deterministic_errors, environment, start_runtime
from kdbench.engine.stored_options import with_marks, with_stored_options
from kdbench.engine.teacher import TeacherSource
from kdbench.engine.teacher_records import teacher_identity
from kdbench.engine.trainer import Progress, Trainer
from kdbench.errors import ConfigError
from kdbench.models.export import save_student
from kdbench.models.features import FeatureModel
from kdbench.models.flops import forward_flops

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """Outcome of a run; ``result.json`` holds the same.

    Accuracies are percent on the test split. ``best`` is the best epoch's by test accuracy: it is optimistic and is never
    mixed with ``last`` in a table. ``selected`` is the test accuracy at the best validation epoch, where a validation
    part was held out, else None.
    """

    run_id: str
    method: str
    teacher: str
    student: str
    dataset: str
    seed: int
    top1_last: float
    top5_last: float
    top1_best: float
    top5_best: float
    best_epoch: int
    epochs: int
    top1_selected: float | None
    teacher_top1: float | None
    student_params: int
    extra_params: int
    seconds: float
    teacher_sha256: str
    data_fingerprint: str
    environment: dict[str, Any]
    folder: str = ""
    #: of one image's forward pass, see :func:`kdbench.models.flops.forward_flops`; None where it cannot be counted
    student_flops: int | None = None
    #: names of the classes, in the order of the network's outputs
    classes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: RunFolder) -> RunResult:
        """Read a finished run."""
        return cls(**{**folder.read_result(), "folder": str(folder.path)})


@deterministic_errors()
def train(cfg: CfgNode, *, progress: Progress | None = None) -> RunResult:
    """Train the configured student, or continue, or do nothing if that run is done.

    Args:
        cfg: from :func:`kdbench.load_config`.
        progress: ``fn(epoch, step, steps)`` after every step.

    Returns:
        The result, as ``result.json`` holds it.

    Raises:
        KdbenchError: whatever makes the run impossible, before anything is written.
    """
    if not cfg.DISTILLER.STUDENT:
        raise ConfigError("DISTILLER.STUDENT is empty: name a student")
    cfg = canonical(cfg)
    tune_malloc()
    runtime = start_runtime(cfg)
    data = build_data(cfg)
    cfg = with_stored_options(cfg, data, _roles(cfg))
    folder, hashes = locate(cfg, data)
    done = runtime.from_main(_finished(folder) if runtime.is_main else None)
    if done is not None:
        log.info("%s is done already", folder.path.name)
        return done
    folder.check_place()
    student = build_network(cfg, "STUDENT", data, seed=cfg.EXPERIMENT.SEED)
    loader = make_loader(cfg, data, runtime)
    teacher = None
    if "TEACHER" in _roles(cfg):
        teacher = TeacherSource(cfg, data, loader, runtime, hashes["teacher_sha256"])
    distiller = build_distiller(cfg, student, teacher.spec if teacher is not None else None, data)
    distiller.check_batch(loader.smallest)
    teacher_top1 = _gate(cfg, data, teacher)
    if runtime.is_main:
        folder.create(cfg)
    runtime.barrier()
    started = time.perf_counter()
    trainer = Trainer(cfg, data, student, distiller, teacher, folder, runtime, progress)
    history = trainer.run()
    if teacher is not None:
        hashes["teacher_sha256"] = teacher.weights_sha256()
    result = _result(
        cfg, folder, history, student, distiller.extra_parameters(), teacher_top1, hashes, runtime, data.classes
    )
    if runtime.is_main:
        _finish(folder, trainer.outcome, {**result, "seconds": round(time.perf_counter() - started, 3)}, cfg)
    runtime.barrier()
    return RunResult.read(folder)


@deterministic_errors()
def evaluate(cfg: CfgNode, weights: str = "") -> Score:
    """Accuracy of the configured student with ``weights`` (or ``STUDENT.WEIGHTS``) on the test split.

    Raises:
        ConfigError: no weights are named.
    """
    if weights:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.STUDENT.WEIGHTS = weights
        cfg.freeze()
    if not cfg.STUDENT.WEIGHTS:
        raise ConfigError("STUDENT.WEIGHTS is empty: name the weights to evaluate")
    tune_malloc()
    runtime = start_runtime(cfg)
    data = build_data(cfg)
    cfg = with_stored_options(cfg, data, ["STUDENT"])
    student = build_network(cfg, "STUDENT", data).to(runtime.device)
    return score(student, data.test, runtime=runtime, **evaluation_options(cfg, data))


def locate(cfg: CfgNode, data: DataSource) -> tuple[RunFolder, dict[str, str]]:
    """The run's folder and the hashes that stand for its inputs."""
    cfg = canonical(cfg)
    cfg = with_stored_options(cfg, data, _roles(cfg))
    taught = "TEACHER" in _roles(cfg)
    hashes = {
        "teacher_sha256": teacher_identity(cfg, data) if taught else "",
        "student_sha256": weights_identity(cfg, "STUDENT", data),
        "data": data.fingerprint(),
    }
    prefix = Path(cfg.LOG.PREFIX) / cfg.EXPERIMENT.NAME
    marked = with_marks(cfg, data, _roles(cfg), hashes)
    return RunFolder(prefix / run_name(cfg, identity(cfg, **marked))), hashes


def _roles(cfg: CfgNode) -> list[str]:
    """The networks that a run uses."""
    taught = uses_teacher(cfg.DISTILLER.TYPE) and cfg.DISTILLER.TEACHER
    return ["TEACHER", "STUDENT"] if taught else ["STUDENT"]


def _finished(folder: RunFolder) -> RunResult | None:
    """The result of a run that is done. One that cannot be read is set aside, and the run goes on from its checkpoint."""
    if not folder.done:
        return None
    try:
        return RunResult.read(folder)
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s cannot be read (%s); it is renamed to *.damaged, and the run goes on", folder.result, error)
        folder.set_aside()
        return None


def _gate(cfg: CfgNode, data: DataSource, teacher: TeacherSource | None) -> float | None:
    if teacher is None:
        return None
    judgement = teacher.judge()
    log.info("teacher %s: top-1 %.2f (%s)", cfg.DISTILLER.TEACHER, judgement.top1, judgement.how)
    check_gate(cfg, data, judgement, teacher.try_settings)
    teacher.remember(judgement)
    return judgement.top1


def _result(
    cfg: CfgNode,
    folder: RunFolder,
    history: list[dict[str, Any]],
    student: FeatureModel,
    extra: int,
    teacher_top1: float | None,
    hashes: dict[str, str],
    runtime: Runtime,
    classes: Sequence[str],
) -> dict[str, Any]:
    last, best = history[-1], max(history, key=lambda line: line["top1"])
    selected = max(history, key=lambda line: line["val_top1"])["top1"] if "val_top1" in last else None
    return asdict(
        RunResult(
            run_id=folder.path.name,
            method=cfg.DISTILLER.TYPE,
            teacher=cfg.DISTILLER.TEACHER,
            student=cfg.DISTILLER.STUDENT,
            dataset=cfg.DATASET.TYPE,
            seed=cfg.EXPERIMENT.SEED,
            top1_last=last["top1"],
            top5_last=last["top5"],
            top1_best=best["top1"],
            top5_best=best["top5"],
            best_epoch=best["epoch"],
            epochs=cfg.SOLVER.EPOCHS,
            top1_selected=selected,
            teacher_top1=teacher_top1,
            student_params=student.spec.params,
            student_flops=forward_flops(student.backbone, student.input_size),
            extra_params=extra,
            seconds=0.0,
            teacher_sha256=hashes["teacher_sha256"],
            data_fingerprint=hashes["data"],
            environment=environment(runtime),
            classes=list(classes),
        )
    )


def _finish(folder: RunFolder, student: FeatureModel, result: dict[str, Any], cfg: CfgNode) -> None:
    """Export the bare student, then write the result: its presence means 'done'."""
    metadata = {
        "name": student.spec.name,
        "num_classes": student.spec.num_classes,
        "classes": result["classes"],
        "statistics": student.statistics,
        "input_size": list(student.spec.input_size),
        "dataset": cfg.DATASET.TYPE,
        "method": cfg.DISTILLER.TYPE,
        "top1": result["top1_last"],
    }
    save_student(folder.student, student.backbone, metadata)
    result.pop("folder")
    write_atomically(folder.result, json.dumps(result, indent=1) + "\n")
