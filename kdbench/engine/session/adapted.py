"""The student as its method deploys it."""

from __future__ import annotations

from yacs.config import CfgNode

from kdbench.distillers.base import Distiller
from kdbench.engine.teacher.several import Teachers
from kdbench.errors import IncompatibleError
from kdbench.models.feature_model.model import FeatureModel


def adapted(cfg: CfgNode, student: FeatureModel, distiller: Distiller, teacher: Teachers | None) -> FeatureModel:
    """What is trained, evaluated and exported: the student, or what its method makes of it.

    Raises:
        IncompatibleError: the method changes a student whose backbone is to stay as it is, or one that is changed already.
    """
    if not distiller.adapts_student:
        return student
    if cfg.STUDENT.FREEZE:
        raise IncompatibleError(f"STUDENT.FREEZE: {distiller.name} changes the student's network; leave it empty")
    if student.adapter:
        raise IncompatibleError(
            f"STUDENT.WEIGHTS {cfg.STUDENT.WEIGHTS}: a method has changed that student, and {distiller.name} cannot change it again"
        )
    return distiller.adapt(student, teacher)
