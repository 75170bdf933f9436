"""The exported student and ``result.json``, whose presence means 'done'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdbench.config.teachers import teacher_name
from kdbench.engine.identity.inputs import environments_of
from kdbench.engine.result import RunResult
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.session.prepare import Common, Prepared
from kdbench.engine.training.saving.checkpoint import forget_previous
from kdbench.engine.training.saving.selection import best_line
from kdbench.engine.training.trainer import Trainer
from kdbench.files import sha256_of
from kdbench.models.feature_model.flops import forward_flops
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.weights.export import save_student


def finish(prepared: Prepared, trainer: Trainer, common: Common, seconds: float) -> RunResult:
    """Write what a trained run leaves behind.

    Args:
        prepared: the run.
        trainer: which has trained it to its end.
        common: what it shares.
        seconds: that its training took.
    """
    cfg, data, folder, history = prepared.cfg, prepared.data, prepared.folder, trainer.history
    if common.teacher is not None and prepared.teacher_top1 is not None:
        prepared.hashes["teacher_sha256"] = common.teacher.weights_sha256()
    if common.runtime.is_main:
        last, best = history[-1], max(history, key=lambda line: line["top1"])
        chosen = best_line(history) if "val_top1" in last else None
        kept: Mapping[str, Any] = last
        if trainer.best is not None and chosen is not None:
            kept = chosen
            trainer.best.put_into(trainer.outcome.backbone)
        student = trainer.student
        result = RunResult(
            run_id=folder.path.name,
            method=cfg.DISTILLER.TYPE,
            teacher=teacher_name(cfg),
            student=cfg.DISTILLER.STUDENT,
            dataset=cfg.DATASET.TYPE,
            seed=cfg.EXPERIMENT.SEED,
            top1_last=last["top1"],
            top5_last=last["top5"],
            top1_best=best["top1"],
            top5_best=best["top5"],
            best_epoch=best["epoch"],
            epochs=last["epoch"],
            top1_selected=chosen["top1"] if chosen is not None else None,
            top1=kept["top1"],
            top5=kept["top5"],
            kept_epoch=kept["epoch"],
            stopped=trainer.stopped or None,
            teacher_top1=prepared.teacher_top1,
            student_params=student.spec.params,
            student_flops=forward_flops(student.backbone, student.input_size),
            extra_params=trainer.distiller.extra_parameters(),
            seconds=round(seconds, 3),
            teacher_sha256=prepared.hashes["teacher_sha256"],
            data_fingerprint=data.fingerprint(),
            phase_seconds=round(trainer.before_seconds, 3) if trainer.before else None,
            skipped_steps=int(trainer.ledger.skipped),
            environment=environments_of(folder, prepared.inputs.environment),
            classes=list(data.classes),
        )
        _export(folder, trainer.outcome, result)
        forget_previous(folder.checkpoint)
        folder.forget_phases()
    common.runtime.barrier()
    return RunResult.read(folder)


def _export(folder: RunFolder, network: FeatureModel, result: RunResult) -> None:
    """The bare student first, then the result."""
    metadata = {
        "name": network.spec.name,
        "num_classes": network.spec.num_classes,
        "classes": result.classes,
        "statistics": network.statistics,
        "input_size": list(network.spec.input_size),
        "dataset": result.dataset,
        "method": result.method,
        "top1": result.top1,
    }
    if network.adapter:
        metadata["adapter"] = dict(network.adapter)
    save_student(folder.student, network.backbone, metadata)
    student, metrics = sha256_of(folder.student), sha256_of(folder.metrics)
    replace(result, student_sha256=student, metrics_sha256=metrics).write(folder.result)
