"""Flow of the solution procedure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Losses, register_distiller
from kdbench.distillers.initialised import Initialised
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked, pair_stages, same_grid
from kdbench.distillers.phase import Phase
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def fsp_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, return_terms: bool = False) -> Any:
    """``sum_i mean (M_s[i] - M_t[i])^2``, ``M[i] = mean_hw b_c a_d`` of neighbouring maps a, b (Yim et al., CVPR 2017).

    Of n maps there are n - 1 matrices, each (B, C_b, C_a): the larger map is average-pooled to the smaller's size. Equal to
    RepDistiller@b84f547.

    Args:
        student_maps, teacher_maps: (B, C, H, W) each, shallow to deep; side by side the channels are equal, sizes need not be.
        return_terms: also return ``pair_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    own, taught = _matrices(student_maps), _matrices(teacher_maps)
    terms = {f"pair_{i}": F.mse_loss(s, t) for i, (s, t) in enumerate(zip(own, taught, strict=True))}
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


def _matrices(maps: Sequence[Tensor]) -> list[Tensor]:
    found = []
    for before, after in itertools.pairwise(maps):
        a, b = (value.flatten(2) for value in same_grid(before, after))
        found.append(b @ a.transpose(1, 2) / a.shape[2])
    return found


@register_distiller("FSP")
class FSP(Initialised):
    """Flow of the Solution Procedure (Yim et al., CVPR 2017): before the first epoch the student learns, for ``INIT_EPOCHS`` epochs
    at the run's rate, how the teacher's channels of one stage go with those of the next; then it is trained by itself, or with KD
    (``LOSS.KD_WEIGHT``).

    Both networks need as many channels at each pair of stages. RepDistiller begins at the stem's map, which is no stage here: a
    network of three stages has two matrices and not three. Its weight of 50 multiplies a constant 0 and is left out. Token networks
    take part with their patches on the grid (ours; no release does it).
    """

    reference = (
        "Yim, Joo, Bae, Kim. A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning. "
        "CVPR 2017"
    )
    verified = "RepDistiller@b84f547"
    kind = "features"

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if teacher is not None:
            pairs = pair_stages(student.stages, teacher.stages)
            if len(pairs) < 2:
                return "it needs two stages that both networks have"
            for own, wanted in pairs:
                if own.channels != wanted.channels:
                    return (
                        f"it needs equal numbers of channels, and at one stage the student has {own.channels}, the teacher "
                        f"{wanted.channels}"
                    )
        return super().refuses(student, teacher, cfg, data)

    def phases(self) -> Sequence[Phase]:
        needs = frozenset({"stages"})
        return [Phase("flow", self.cfg.INIT_EPOCHS, self._flow, (), needs, needs)]

    def _flow(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pairs = pair_stages(asked(student.stages), asked(teacher.stages))
        _, terms = fsp_loss([s for s, _ in pairs], [t for _, t in pairs], return_terms=True)
        return terms
