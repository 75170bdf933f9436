"""Accuracy of a network on a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench import stopping
from kdbench.data.loader import evaluation_batches
from kdbench.data.source import Split
from kdbench.engine.precision import products
from kdbench.engine.runtime import Runtime
from kdbench.models.feature_model.model import FeatureModel


@dataclass(frozen=True)
class Score:
    """Top-1 and top-5 accuracy in percent, mean cross entropy, number of images."""

    top1: float
    top5: float
    loss: float
    images: int


@torch.no_grad()
def score(
    model: FeatureModel,
    split: Split,
    *,
    batch_size: int,
    runtime: Runtime,
    size: int = 0,
    crop_pct: float = 0.0,
    interpolation: str = "bilinear",
    workers: int = 0,
    observe: Callable[[Tensor, Tensor], None] | None = None,
) -> Score:
    """Evaluate on every image once; counts are summed over the processes, without padding.

    Args:
        model: its training mode is put back afterwards.
        split: images and labels.
        batch_size: of one process.
        runtime: device and processes.
        size: side to which images are resized first; 0 = as they are.
        crop_pct, interpolation: of the resize and the centre crop, see
            :func:`kdbench.data.loader.evaluation_batches`.
        workers: threads that read image files in advance.
        observe: is handed the logits (B, K) and labels (B,) of every batch of this process.

    Raises:
        RunStoppedError: a signal asked this process to stop, see :mod:`kdbench.stopping`.
    """
    training = model.training
    model.eval()
    # Summed on the device: the host reads it once, at the end.
    sums, count = torch.zeros(3, dtype=torch.float64, device=runtime.device), 0
    top = min(5, model.spec.num_classes)
    how: dict[str, Any] = {"workers": workers, "crop_pct": crop_pct, "interpolation": interpolation}
    batches = evaluation_batches(split, batch_size, size, runtime.device, runtime.rank, runtime.world, **how)
    with products("fp32", runtime.device):  # whatever it was trained in
        for inputs, labels in batches:
            if runtime.world == 1:  # of several processes each may be asked at another batch
                stopping.check("in an evaluation")
            logits = model(inputs).logits.float()
            if observe is not None:
                observe(logits, labels)
            sums += batch_sums(logits, labels, top)
            count += len(labels)
    model.train(training)
    whole = torch.cat((sums, torch.full((1,), count, dtype=torch.float64, device=runtime.device)))
    top1, top5, loss, images = runtime.sum(whole).tolist()
    return Score(round(100 * top1 / images, 4), round(100 * top5 / images, 4), loss / images, int(images))


def batch_sums(logits: Tensor, labels: Tensor, top: int) -> Tensor:
    """(3,) float64: how many of (B, K) logits have their (B,) label first, how many among the ``top`` largest, and the sum of the
    cross entropies."""
    hits = logits.topk(top, dim=1).indices == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack((hits[:, 0].sum(), hits.sum(), loss)).double()
