"""The outcome of a run, as ``result.json`` holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from yacs.config import CfgNode

from kdbench.data.source import DataSource
from kdbench.engine.run_folder import RunFolder
from kdbench.models.features import FeatureModel
from kdbench.models.flops import forward_flops


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


def summarise_run(
    cfg: CfgNode,
    folder: RunFolder,
    history: list[dict[str, Any]],
    student: FeatureModel,
    extra: int,
    teacher_top1: float | None,
    hashes: dict[str, str],
    data: DataSource,
    made_in: dict[str, Any],
) -> dict[str, Any]:
    """What ``result.json`` holds of a run whose last epoch is in ``history``; its seconds are filled in later."""
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
            data_fingerprint=data.fingerprint(),
            environment=made_in,
            classes=list(data.classes),
        )
    )
