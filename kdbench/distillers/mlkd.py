"""Multi-level logit distillation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import STANDARDIZED_PAIR, full_precision, standardize, tempered_kl, with_terms
from kdbench.models.spec import ModelOutput, ModelSpec

#: temperatures beside the method's own; the last two never see the strong look
_BOTH, _WEAK = (3.0, 5.0), (2.0, 6.0)


@full_precision
def mlkd_loss(
    student_weak: Tensor,
    student_strong: Tensor,
    teacher_weak: Tensor,
    teacher_strong: Tensor,
    *,
    temperature: float = 4.0,
    standardized: bool = False,
    return_terms: bool = False,
) -> Any:
    """Sum of an instance, a class and a batch term (Jin, Wang and Lin, CVPR 2023) of two looks at each image, as released.

    With ``kd_t`` the batch mean of ``t^2 KL(teacher || student)`` at temperature t, ``P`` (B, K) softmaxes at t, and sums over
    ``t`` in {T, 3, 5, 2, 6}::

        instance = m sum_t kd_t(weak) + kd_T(strong) + kd_3(strong) + kd_5(strong) + kd_2(weak) + kd_6(weak)
        class    = c sum_t ||P_teacher' P_teacher - P_student' P_student||^2 / K      (weak)
        batch    = m sum_t ||P_teacher P_teacher' - P_student P_student'||^2 / B      (weak)

    ``m`` is the share of samples whose teacher is at most as confident as the batch's median (largest softmax, weak, at 1), ``c``
    the share of classes whose sum of these softmaxes is at most the median: the release reduces its terms to numbers before it
    masks them, so that the masks scale whole terms by about a half. Equal to Multi-Level-Logit-Distillation@5ee473f.

    Args:
        student_weak, student_strong: (B, K) logits for the two looks.
        teacher_weak, teacher_strong: (B, K) logits, no gradient.
        temperature: T.
        standardized: the instance term compares standardised logits, the others raw ones (logit-standardization-KD@6083e2d).
        return_terms: also return ``instance``, ``class`` and ``batch``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    size, classes = student_weak.shape
    temperatures = (temperature, *_BOTH, *_WEAK)
    prob = teacher_weak.softmax(1)
    samples, groups = _lower_share(prob.amax(1)), _lower_share(prob.sum(0))

    def kd(student: Tensor, teacher: Tensor, some: tuple[float, ...]) -> Tensor:
        if standardized:
            student, teacher = standardize(student), standardize(teacher)
        return torch.stack([tempered_kl(student, teacher, t).mean() for t in some]).sum()

    pairs = [(F.softmax(student_weak / t, 1), F.softmax(teacher_weak / t, 1)) for t in temperatures]
    instance = samples * kd(student_weak, teacher_weak, temperatures)
    instance = instance + kd(student_strong, teacher_strong, temperatures[:3]) + kd(student_weak, teacher_weak, _WEAK)
    of_classes = torch.stack([(t.T @ t - s.T @ s).square().sum() for s, t in pairs]).sum() / classes
    of_batch = torch.stack([(t @ t.T - s @ s.T).square().sum() for s, t in pairs]).sum() / size
    terms = {"instance": instance, "class": groups * of_classes, "batch": samples * of_batch}
    return with_terms(terms["instance"] + terms["class"] + terms["batch"], terms, return_terms)


def _lower_share(values: Tensor) -> Tensor:
    """Share of the numbers (n,) that are at most their median, which lies half-way between two middle ones."""
    ranked, count = values.sort().values, len(values)
    median = (ranked[(count - 1) // 2] + ranked[count // 2]) / 2.0
    return (values <= median).to(values.dtype).mean()


@register_distiller("MLKD", aliases=("KD_ours",))
class MLKD(Distiller):
    """Multi-Level logit Distillation (Jin, Wang and Lin, CVPR 2023): softmaxes, their correlations between classes and between
    samples, of an image as usual and of a second, strongly augmented look at it.

    Student and teacher run on both looks, so that a step costs twice as much as KD's and sees twice as many images: its accuracy
    is not like for like with that of other methods. The cross entropy is the sum over both. Accuracies are those of the usual look.

    The strong look has the run's crop and flip, drawn anew, two operations of RandAugment, each of a strength that is uniform over
    its range, and a square up to half the side filled with the data's mean colour. The release's data files were not seen: these
    operations and strengths are ours, and unverified. As released, the masks of confident samples and classes only scale terms, the
    strong look has no class and batch term, and two temperatures of its instance term read the usual look. Published runs have half
    the usual learning rate, and twice the epochs for MobileNetV2 and ShuffleNets. Several processes compare the samples of their
    own share. ``STANDARDIZE`` has the instance term compare standardised logits (Sun et al., CVPR 2024).
    """

    reference = "Jin, Wang, Lin. Multi-Level Logit Distillation. CVPR 2023"
    kind = "logits"
    verified = "Multi-Level-Logit-Distillation@5ee473f; STANDARDIZE: logit-standardization-KD@6083e2d"
    looks = ("strong",)
    batch_coupled = True
    min_batch = 2  # one sample is as confident as its median, and has no other to compare with
    defaults = {"TEMPERATURE": 4.0, "STANDARDIZE": False, "CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9}
    added = ("STANDARDIZE",)
    domains = {"TEMPERATURE": "(0, inf)", "CE_WEIGHT": "[0, inf)", "KD_WEIGHT": "[0, inf)"}
    #: configs/imagenet/r34_r18/kd_ours.yaml
    presets = {
        "imagenet": {"TEMPERATURE": 1.0, "CE_WEIGHT": 0.5, "KD_WEIGHT": 0.5},
        # --logit-stand with its defaults, --base-temp 2 --kd-weight 9 (logit-standardization-KD@f6e5aa5)
        "standardized": {"TEMPERATURE": 2.0, "KD_WEIGHT": 9.0, "STANDARDIZE": True},
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if cfg.STANDARDIZE and data.num_classes < 3:
            return f"{STANDARDIZED_PAIR}: leave MLKD.STANDARDIZE off, or use another method"
        return super().refuses(student, teacher, cfg, data)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        assert student.looks is not None
        assert teacher.looks is not None
        own, taught = student.looks["strong"], teacher.looks["strong"]
        _, terms = mlkd_loss(
            *(student.logits, own.logits, teacher.logits, taught.logits),
            temperature=self.cfg.TEMPERATURE,
            standardized=self.cfg.STANDARDIZE,
            return_terms=True,
        )
        entropy = self.cross_entropy(student.logits, batch) + self.cross_entropy(own.logits, batch)
        return {
            "ce": self.cfg.CE_WEIGHT * entropy,
            **{name: self.cfg.KD_WEIGHT * term for name, term in terms.items()},
        }
