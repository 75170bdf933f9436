"""SimKD: the student reuses the teacher's classifier."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, HasClassifier, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.errors import ConfigError, LossError
from kdbench.models.backbone.pooling import adaptive_average
from kdbench.models.feature_model.adapted import adapt
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def simkd_loss(student_map: Tensor, teacher_map: Tensor, *, return_terms: bool = False) -> Any:
    """Mean squared difference of the projected map and the teacher's, over all elements (Chen et al., CVPR 2022; SimKD@2b389c3).

    The larger of two maps is average-pooled to the other's size.

    Args:
        student_map: (B, C, H_s, W_s), what the projector gives.
        teacher_map: (B, C, H_t, W_t), no gradient.
        return_terms: also return ``{"feature"}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    if student_map.shape[2] > teacher_map.shape[2]:
        student_map = adaptive_average(student_map, _size(teacher_map))
    elif student_map.shape[2:] != teacher_map.shape[2:]:
        teacher_map = adaptive_average(teacher_map, _size(student_map))
    loss = F.mse_loss(student_map, teacher_map)
    return with_terms(loss, {"feature": loss}, return_terms)


@register_distiller("SIMKD")
class SimKD(Distiller):
    """Knowledge distillation with the reused teacher classifier (Chen et al., CVPR 2022): a projector behind the student's last map
    imitates the teacher's, and the teacher's frozen classifier reads the average of what it gives.

    The deployed student is backbone, projector and that classifier; its own is taken out. Parameters, operations, accuracy and
    every exported file are those of the deployed network. At the release's weights nothing is learned from labels. In one's own
    loop, ``student = method.adapt(student, teacher)`` comes before the optimiser.

    The projector starts as PyTorch's layers do. Token networks whose head averages over patches take part with these on their grid
    (ours); a norm that stands behind the average in such a student is no longer used.
    """

    reference = (
        "Chen, Mei, Zhang, Wang, Feng, Chen. Knowledge Distillation with the Reused Teacher Classifier. CVPR 2022"
    )
    verified = "SimKD@2b389c3"
    teacher_needs = {"logits", "region_maps", "classifier"}
    student_needs = {"logits", "region_maps"}
    adapts_student = True
    defaults = {"FACTOR": 2, "LOSS": {"CE_WEIGHT": 0.0, "FEAT_WEIGHT": 1.0}}
    domains = {"FACTOR": "[1, inf)", "LOSS.CE_WEIGHT": "[0, inf)", "LOSS.FEAT_WEIGHT": "[0, inf)"}

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        reason = super().refuses(student, teacher, cfg, data)
        if reason is None and teacher is not None and (teacher.head != "gap" or not teacher.stages):
            return (
                f"the classifier of the teacher {teacher.name} does not read the average of its last map, so that a student "
                "cannot reuse it"
            )
        return reason

    def setup(self) -> None:
        self.adapted = False

    def adapt(self, student: FeatureModel, teacher: HasClassifier | None = None) -> FeatureModel:
        """The student with the projector and the teacher's classifier, which are its own from now on.

        Raises:
            ConfigError: no teacher.
        """
        if teacher is None:
            raise ConfigError("SIMKD.adapt takes the teacher's classifier: give it the teacher's network")
        spec = self.teacher_spec
        weight, bias = teacher.classifier()
        with self.seeded("projector"):
            made = adapt(
                student,
                {
                    "kind": "projector",
                    "width": spec.penultimate,
                    "grid": list(spec.stages[-1].grid),
                    "factor": self.cfg.FACTOR,
                    "bias": True,
                },
            )
        classifier: Any = made.backbone.get_submodule("classifier")
        with torch.no_grad():
            classifier.weight.copy_(weight)
            classifier.bias.copy_(bias)
        self.adapted = True
        return made

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        if not self.adapted:
            raise LossError("SIMKD: the student has no projector; train method.adapt(student, teacher) in its place")
        projected, target = asked(student.region_maps), asked(teacher.region_maps)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "simkd": self.cfg.LOSS.FEAT_WEIGHT * simkd_loss(projected, target),
        }


def _size(feature_map: Tensor) -> tuple[int, int]:
    return feature_map.shape[2], feature_map.shape[3]
