"""What a network says of the test images: accuracy of each class, confusions, calibration, agreement with its teacher."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from kdbench.data.build import build_data
from kdbench.engine.evaluation import Score
from kdbench.engine.result import RunResult
from kdbench.engine.run import evaluate
from kdbench.engine.run_folder import RunFolder
from kdbench.errors import ConfigError
from kdbench.models.weights.read import file_sha256
from kdbench.paths import user_path

#: bins of equal width, as in the paper of the expected calibration error
BINS = 15


@dataclass
class Outputs:
    """A network's answers for every image of a test split, in its order.

    Attributes:
        score: accuracies and mean cross entropy (the negative log likelihood).
        logits: (N, K) float32.
        labels: (N,) int64.
        classes: names of the K classes.
    """

    score: Score
    logits: np.ndarray
    labels: np.ndarray
    classes: list[str] = field(default_factory=list)

    @property
    def predicted(self) -> np.ndarray:
        """(N,) class with the largest logit."""
        return np.asarray(self.logits.argmax(1))

    @property
    def confidence(self) -> np.ndarray:
        """(N,) probability of the predicted class."""
        return np.asarray(torch.from_numpy(self.logits).double().softmax(1).max(1).values.numpy())

    def calibration_error(self, bins: int = BINS) -> float:
        """Expected calibration error in [0, 1]: mean over ``bins`` bins of confidence, weighted by their images, of |accuracy -
        confidence| (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3)."""
        confidence, right = self.confidence, self.predicted == self.labels
        place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        gaps = [
            abs(right[place == b].mean() - confidence[place == b].mean()) * (place == b).sum()
            for b in range(bins)
            if (place == b).any()
        ]
        return float(sum(gaps) / len(self.labels))

    def per_class(self) -> list[tuple[str, int, float | None]]:
        """(class, images, accuracy in percent) of every class; None for one without images."""
        right = self.predicted == self.labels
        rows: list[tuple[str, int, float | None]] = []
        for number, name in enumerate(self.classes):
            there = self.labels == number
            rows.append((name, int(there.sum()), 100.0 * float(right[there].mean()) if there.any() else None))
        return rows

    def confusion(self) -> np.ndarray:
        """(K, K) int64: images of class i that were taken for class j."""
        from sklearn.metrics import confusion_matrix

        return np.asarray(confusion_matrix(self.labels, self.predicted, labels=range(len(self.classes))))

    def agreement(self, other: Outputs) -> float:
        """Percent of the images for which both predict the same class."""
        return 100.0 * float((self.predicted == other.predicted).mean())


def outputs_of(cfg: CfgNode, weights: str = "") -> Outputs:
    """The configured student's answers; see :func:`kdbench.evaluate`.

    Raises:
        ConfigError: no weights are named, or several processes run.
    """
    from kdbench.processes.place import rank_and_world

    if rank_and_world()[1] > 1:
        raise ConfigError("details of an evaluation are of one process; leave out torchrun")
    logits: list[Tensor] = []
    labels: list[Tensor] = []

    def observe(output: Tensor, target: Tensor) -> None:
        logits.append(output.cpu())
        labels.append(target.cpu())

    score = evaluate(cfg, weights, observe=observe)
    return Outputs(score, torch.cat(logits).numpy(), torch.cat(labels).numpy(), list(build_data(cfg).classes))


def teachers_outputs(cfg: CfgNode) -> Outputs | None:
    """Those of the teacher of a run, under the same evaluation; None where the run has none, or its weights are not named."""
    from kdbench.engine.train_teacher import teacher_config

    if not (cfg.DISTILLER.TEACHER and cfg.TEACHER.WEIGHTS):
        return None
    made = teacher_config(cfg)
    made.defrost()
    made.STUDENT.HEAD = cfg.TEACHER.HEAD
    made.freeze()
    return outputs_of(made)


def teachers_weights(run: str | Path, weights: str) -> str:
    """Where the weights of a run's teacher lie now: as its configuration names them, else beside the run, as a grid's teachers do
    (paths are relative to where the run was started).

    Args:
        run: folder of a run.
        weights: ``TEACHER.WEIGHTS`` of its configuration.

    Returns:
        A file, or a word that names published weights; empty where no file with the weights that the run learnt from is found.
    """
    given = user_path(weights)
    if weights in ("", "pretrained") or given.is_file():
        return weights
    moved = Path(run).resolve().parent / given.parent.name / given.name
    try:
        result = RunResult.read(RunFolder(Path(run).resolve()))
        same = moved.is_file() and file_sha256(moved) == result.teacher_sha256
    except (OSError, ValueError):
        same = False
    return str(moved) if same else ""


def summary(found: Outputs, teacher: Outputs | None) -> dict[str, Any]:
    """The numbers of an evaluation, as JSON can hold them."""
    score = found.score
    numbers: dict[str, Any] = {"top1": score.top1, "top5": score.top5, "nll": score.loss, "images": score.images}
    numbers["ece"] = found.calibration_error()
    if teacher is not None:
        numbers |= {"teacher_top1": teacher.score.top1, "agreement": found.agreement(teacher)}
    assert all(math.isfinite(value) for value in numbers.values())
    return numbers


def prediction_rows(found: Outputs, teacher: Outputs | None) -> Sequence[dict[str, Any]]:
    """A row an image, in the order of the split: its label, what was predicted, and how surely."""
    names = found.classes
    rows = []
    for number, (label, predicted, sure) in enumerate(zip(found.labels, found.predicted, found.confidence)):
        row: dict[str, Any] = {"image": number, "label": names[label], "predicted": names[predicted]}
        row |= {"confidence": round(float(sure), 6), "right": bool(label == predicted)}
        if teacher is not None:
            row["teacher"] = names[teacher.predicted[number]]
        rows.append(row)
    return rows
