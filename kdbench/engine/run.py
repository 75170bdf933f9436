"""``train`` and ``evaluate``: one run from a configuration to a folder."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode

from kdbench.data.build import build_data
from kdbench.data.malloc import tune_malloc
from kdbench.data.source import DataSource
from kdbench.distillers.create import uses_teacher
from kdbench.engine.announce import opening
from kdbench.engine.evaluation import Score, score
from kdbench.engine.identity.canonical import canonical
from kdbench.engine.identity.code import Code, code_of
from kdbench.engine.identity.inputs import Inputs, environments_of
from kdbench.engine.identity.name import identity, run_name, weights_identity
from kdbench.engine.identity.stored_options import with_marks, with_stored_options
from kdbench.engine.identity.teacher_records import teacher_identity
from kdbench.engine.parts import build_distiller, build_network, evaluation_options, make_loader
from kdbench.engine.result import RunResult
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.runtime import Runtime, deterministic_errors, environment, start_runtime
from kdbench.engine.teacher.gate import check_gate
from kdbench.engine.teacher.source import TeacherSource
from kdbench.engine.training.finite import check_score
from kdbench.engine.training.single import check_single
from kdbench.engine.training.trainer import Progress, Trainer
from kdbench.errors import ConfigError, KdbenchError
from kdbench.models.feature_model.flops import forward_flops
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.weights.export import save_student

log = logging.getLogger(__name__)


@deterministic_errors()
def train(cfg: CfgNode, *, progress: Progress | None = None, resume: bool = False) -> RunResult:
    """Train the configured student, or continue, or do nothing if that run is done.

    Args:
        cfg: from :func:`kdbench.load_config`.
        progress: ``fn(epoch, step, steps)`` after every step.
        resume: warn where there is no checkpoint to go on from; a run goes on from one in any case.

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
    code = code_of(cfg)
    folder, hashes, plain = locate(cfg, data, code, runtime.world)
    inputs = Inputs(data, code, plain, surroundings(cfg, code, runtime), Path(cfg.LOG.PREFIX))
    done = runtime.from_main(_finished(folder, inputs) if runtime.is_main else None)
    if isinstance(done, KdbenchError):
        raise done
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
    check_single(student, distiller, teacher, loader)
    teacher_top1 = _gate(cfg, data, teacher)
    if resume and runtime.is_main and not folder.checkpoint.is_file():
        log.warning(
            "--resume: %s has no checkpoint; it starts at epoch 1 (another key or seed is another run)", folder.path
        )
    if runtime.is_main:
        folder.create(cfg)
        inputs.record(folder)
        log.info("%s", opening(cfg, data, student, teacher, folder, runtime))
    runtime.barrier()
    started = time.perf_counter()
    trainer = Trainer(cfg, data, student, distiller, teacher, folder, runtime, progress)
    history = trainer.run()
    if teacher is not None:
        hashes["teacher_sha256"] = teacher.weights_sha256()
    if runtime.is_main:
        last, best = history[-1], max(history, key=lambda line: line["top1"])
        selected = max(history, key=lambda line: line["val_top1"])["top1"] if "val_top1" in last else None
        result = RunResult(
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
            extra_params=distiller.extra_parameters(),
            seconds=round(time.perf_counter() - started, 3),
            teacher_sha256=hashes["teacher_sha256"],
            data_fingerprint=data.fingerprint(),
            environment=environments_of(folder, inputs.environment),
            classes=list(data.classes),
        )
        _finish(folder, trainer.outcome, result)
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
    if student.fresh_head:
        raise ConfigError(
            f"STUDENT.HEAD: reset drops the classifier of {cfg.STUDENT.WEIGHTS!r}, and an accuracy of a fresh one means nothing; "
            "evaluate weights that hold a classifier for these classes"
        )
    found = score(student, data.test, runtime=runtime, **evaluation_options(cfg, data))
    where = f"the outputs of {cfg.DISTILLER.STUDENT!r} with weights {cfg.STUDENT.WEIGHTS!r}"
    check_score(found, where, "are the weights damaged, or STUDENT.NORM wrong?")
    return found


class Located(NamedTuple):
    """A run's folder, the hashes that stand for the weights that it starts from, and its identity without the user's code."""

    folder: RunFolder
    hashes: dict[str, str]
    plain: str


def locate(cfg: CfgNode, data: DataSource, code: Code | None = None, processes: int = 1) -> Located:
    """Where a run lies, and what it is.

    Args:
        cfg: configuration.
        data: its data set.
        code: what defines it; None finds out.
        processes: of the run.
    """
    cfg = canonical(cfg)
    cfg = with_stored_options(cfg, data, _roles(cfg))
    code = code or code_of(cfg)
    taught = "TEACHER" in _roles(cfg)
    hashes = {
        "teacher_sha256": teacher_identity(cfg, data) if taught else "",
        "student_sha256": weights_identity(cfg, "STUDENT", data),
    }
    marked = with_marks(cfg, data, _roles(cfg), hashes)
    plain = identity(cfg, data, marked, world=processes)
    digest = identity(cfg, data, marked, code=code.brought, world=processes)
    return Located(RunFolder(Path(cfg.LOG.PREFIX) / cfg.EXPERIMENT.NAME / run_name(cfg, digest)), hashes, plain)


def _roles(cfg: CfgNode) -> list[str]:
    """The networks that a run uses."""
    taught = uses_teacher(cfg.DISTILLER.TYPE) and cfg.DISTILLER.TEACHER
    return ["TEACHER", "STUDENT"] if taught else ["STUDENT"]


def surroundings(cfg: CfgNode, code: Code, runtime: Runtime) -> dict[str, Any]:
    """What a result depends on besides its configuration, for the record: versions, machine, and kdbench's code of the method."""
    return {**environment(runtime), "compile": bool(cfg.SOLVER.COMPILE), "code": code.digest}


def read_finished(cfg: CfgNode, processes: int = 1) -> RunResult | None:
    """The result of the run of a configuration if it is done, else None; trains nothing."""
    folder = locate(cfg, build_data(cfg), processes=processes).folder
    return RunResult.read(folder) if folder.done else None


def _finished(folder: RunFolder, inputs: Inputs) -> RunResult | KdbenchError | None:
    """The result of a run that is done, or why it can be neither used nor gone on with. One of which the result or the student
    cannot be read is set aside, and the run goes on from its checkpoint."""
    try:
        inputs.check(folder)
    except KdbenchError as error:
        return error
    if not folder.result.is_file():
        changed = inputs.predecessor(folder) if not folder.path.exists() else ""
        if changed:
            log.info("%s; this is a new run, %s", changed, folder.path.name)
        return None
    reason = folder.missing()
    if not reason:
        try:
            return RunResult.read(folder)
        except (OSError, ValueError) as error:
            reason = f"{folder.result} cannot be read ({error})"
    log.warning("%s; %s is renamed to *.damaged, and the run goes on", reason, folder.result.name)
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


def _finish(folder: RunFolder, student: FeatureModel, result: RunResult) -> None:
    """Export the bare student, then write the result: its presence means 'done'."""
    metadata = {
        "name": student.spec.name,
        "num_classes": student.spec.num_classes,
        "classes": result.classes,
        "statistics": student.statistics,
        "input_size": list(student.spec.input_size),
        "dataset": result.dataset,
        "method": result.method,
        "top1": result.top1_last,
    }
    save_student(folder.student, student.backbone, metadata)
    result.write(folder.result)
