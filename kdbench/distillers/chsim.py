"""Channel similarity: ICKD's form for ImageNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdbench.distillers.base import register_distiller
from kdbench.distillers.ickd import ICKD, relation_distance
from kdbench.distillers.parts.numerics import full_precision, with_terms


@full_precision
def chsim_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, return_terms: bool = False) -> Any:
    """:func:`kdbench.functional.ickd_loss` divided by B once more; torchdistill@3e4373c (ChSimLoss).

    Args:
        student_maps: (B, C, H_s, W_s) each, brought to the teacher's channels.
        teacher_maps: (B, C, H_t, W_t) each, no gradient; the sizes may differ.
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    terms = {f"stage_{i}": relation_distance(s, t) / len(s) for i, (s, t) in enumerate(pairs)}
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("CHSIM")
class CHSIM(ICKD):
    """Channel similarity (Liu et al., ICCV 2021, as torchdistill has it): ICKD with a loss that is divided by the size of the batch
    once more, so that weights of the two are not interchangeable, and another batch is another weight.

    The default weight is 1, since no weight comes with the function. Everything else is ICKD's.
    """

    verified = "torchdistill@3e4373c"
    batch_coupled = True  # a mean over samples whose weight depends on their number
    defaults = {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0}}
    compare: ClassVar[Callable[..., Any]] = staticmethod(chsim_loss)
