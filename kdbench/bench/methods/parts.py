"""Whether a method's loss for a batch is the mean of its losses for the batch's parts, as gradient accumulation takes it."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdbench.bench.methods.conformance import BATCH, NETWORKS, create_pair, make_batch
from kdbench.distillers.base import Distiller
from kdbench.distillers.cut import cut, why_whole
from kdbench.models.feature_model.model import FeatureModel

_PARTS, _STEPS, _TOLERANCE = 3, 2, 1e-9


def check_parts(method: str, teacher: str, student: str) -> str:
    """Two steps of ``method`` in float64 on whole batches, and on the same batches in three parts.

    Args:
        method: registered name.
        teacher, student: keys of ``NETWORKS``; the student's batch normalisation keeps its statistics.

    Returns:
        ``"same"`` where gradients and the method's state agree to 1e-9; else why the method refuses parts of a batch.

    Raises:
        AssertionError: they differ, and nothing that the method declares says so.
        IncompatibleError: the method refuses the pair.
    """
    s_model, t_model, distiller = create_pair(method, NETWORKS[teacher], NETWORKS[student])
    for module in s_model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    found = []
    for parts in (1, _PARTS):
        student_copy, method_copy = copy.deepcopy(s_model).double(), copy.deepcopy(distiller).double()
        teacher_copy = None if t_model is None else copy.deepcopy(t_model).double()
        found.append(_gradients(student_copy, teacher_copy, method_copy, parts))
    apart = [key for key, value in found[0].items() if not _close(value, found[1][key])]
    reason = why_whole(distiller)
    assert reason or not apart, (
        f"{method}: {apart[0]} is another one when a batch is cut into parts; declare batch_coupled = True in the method's class"
    )
    return reason if apart else "same"


def _gradients(
    student: FeatureModel, teacher: FeatureModel | None, distiller: Distiller, parts: int
) -> dict[str, Tensor]:
    """Gradients of the last step, and what the method keeps."""
    for number in range(_STEPS):
        whole = make_batch(student, BATCH, first=BATCH * number)
        looks = {name: images.double() for name, images in whole.looks.items()}
        batch = replace(whole, images=whole.images.double(), looks=looks)
        given = distiller.taught(teacher, batch)
        for module in (student, distiller):
            module.zero_grad(set_to_none=True)
        torch.manual_seed(4)
        for piece, outputs, share in cut(batch, given, parts):
            terms = distiller(student, outputs, piece)
            (torch.stack([term.double() for term in terms.values()]).sum() * share).backward()
    modules: dict[str, nn.Module] = {"student": student, "method": distiller}
    found = {
        f"the gradient of {what}.{name}": p.grad for what, m in modules.items() for name, p in m.named_parameters()
    }
    kept = {f"the method's {name}": value.clone() for name, value in distiller.named_buffers()}
    return {**{key: value for key, value in found.items() if value is not None}, **kept}


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    scale = float(one.double().abs().max()) if one.numel() else 0.0
    return torch.allclose(one.double(), other.double(), rtol=_TOLERANCE, atol=_TOLERANCE * max(scale, 1e-6))
