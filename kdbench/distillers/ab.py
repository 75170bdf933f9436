"""Activation boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Losses, register_distiller
from kdbench.distillers.initialised import Initialised
from kdbench.distillers.parts.conv_regressor import conv_regressor, leads
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked, pair_stages
from kdbench.distillers.phase import Phase
from kdbench.models.spec import ModelOutput, ModelSpec, StageSpec

#: of the whole loss, as released
_SCALE = 3.0 / 1000.0


@full_precision
def ab_loss(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, margin: float = 1.0, return_terms: bool = False
) -> Any:
    """``sum_i 2^(i-n+1) 3/1000 sum (s + m)^2 [s > -m, t <= 0] + (s - m)^2 [s <= m, t > 0] / B`` (Heo et al., AAAI 2019).

    A neuron shall be active where the teacher's is, by a margin m, and inactive where it is not; how active does not matter. Equal
    to RepDistiller@b84f547; the criterion of AB_distillation@a7701d3 is the same function.

    Args:
        student_maps: connector outputs before the ReLU, of the teacher's shapes, shallow to deep.
        teacher_maps: (B, C, H, W) each, before the ReLU, no gradient.
        margin: m.
        return_terms: also return ``stage_0`` ..., with their weights.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms, last = {}, len(student_maps) - 1
    for i, (student, teacher) in enumerate(zip(student_maps, teacher_maps, strict=True)):
        active = teacher > 0
        above = (student + margin).square() * ((student > -margin) & ~active)
        below = (student - margin).square() * ((student <= margin) & active)
        terms[f"stage_{i}"] = (above + below).sum() * (2.0 ** (i - last) * _SCALE / len(student))
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("AB")
class AB(Initialised):
    """Activation Boundaries (Heo et al., AAAI 2019): before the first epoch the student learns, for ``INIT_EPOCHS`` epochs at the
    run's rate, where the teacher's neurons are active; then it is trained by itself, or with KD (``LOSS.KD_WEIGHT``).

    Maps are those before a stage's last activation, which only networks with ReLUs there have. Where channels or places differ, a
    connector with batch normalisation leads from the student's map to the teacher's shape; it is trained in the first phase and not
    used after it. Several stages of other depths are paired from the deepest.
    """

    reference = (
        "Heo, Lee, Yun, Choi. Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons. AAAI 2019, "
        "arXiv 1811.03233"
    )
    verified = "RepDistiller@b84f547, AB_distillation@a7701d3"
    kind = "features"
    defaults = {**Initialised.defaults, "MARGIN": 1.0}
    domains = {**Initialised.domains, "MARGIN": "[0, inf)"}

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        for role, spec in (("student", student), ("teacher", teacher)):
            if spec is not None and "pre_activation" not in spec.provides:
                return f"the {role} {spec.name} has no ReLU at the end of its stages, and so no boundary of activation"
        if teacher is not None:
            for own, wanted in pair_stages(student.pre_activation, teacher.pre_activation):
                if not leads(own.grid, wanted.grid):
                    return f"no connector leads from a grid of {own.grid} to one of {wanted.grid}"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        super().setup()
        self.connectors = nn.ModuleList()
        pairs = pair_stages(self.student_spec.pre_activation, self.teacher_spec.pre_activation)
        for i, (student, teacher) in enumerate(pairs):
            with self.seeded(f"connector_{i}"):
                self.connectors.append(_connector(student, teacher))
        self.connectors.requires_grad_(False)

    def phases(self) -> Sequence[Phase]:
        needs = frozenset({"pre_activation"})
        return [Phase("boundaries", self.cfg.INIT_EPOCHS, self._boundaries, (self.connectors,), needs, needs)]

    def _boundaries(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pairs = pair_stages(asked(student.pre_activation), asked(teacher.pre_activation))
        own = [connector(s) for connector, (s, _) in zip(self.connectors, pairs)]
        _, terms = ab_loss(own, [t for _, t in pairs], margin=self.cfg.MARGIN, return_terms=True)
        return terms


def _connector(student: StageSpec, teacher: StageSpec) -> nn.Module:
    same = (student.channels, student.grid) == (teacher.channels, teacher.grid)
    return nn.Identity() if same else conv_regressor(student, teacher)
