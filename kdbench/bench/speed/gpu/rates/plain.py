"""The loop that anybody would write in PyTorch: images on the device, everything asked for step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench.engine.precision import autocast, products
from kdbench.models.zoo import create_model

_TEMPERATURE, _MEAN, _STD = 4.0, 0.5, 0.29


def plain_steps(spec: dict[str, Any], device: torch.device) -> Callable[[int], int]:
    """``fn(n)`` takes n steps of KD and returns the images of them.

    Cross entropy plus Hinton's KL divergence (T = 4), SGD with momentum, cuDNN's benchmark mode, random crops and flips on the
    device; no loss is read. This is faster than a loop that decodes images or prints its loss.

    Args:
        spec: ``teacher``, ``student`` (name, options each), ``weights`` (of the teacher), ``size``, ``classes``, ``batch``,
            ``images``, ``pad`` (pixels; 0 = no crop), ``precision``, ``channels_last``.
        device: of all.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    teacher, student = (_network(spec, role, device) for role in ("teacher", "student"))
    teacher.load_state_dict(torch.load(spec["weights"], map_location=device, weights_only=True))
    teacher.eval().requires_grad_(False)
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    size, batch, pad = spec["size"], spec["batch"], spec["pad"]
    images = torch.randint(0, 256, (spec["images"], 3, size, size), dtype=torch.uint8, device=device)
    labels = torch.randint(0, spec["classes"], (spec["images"],), device=device)
    order = torch.randperm(spec["images"], device=device)
    place = 0
    layout = torch.channels_last if spec["channels_last"] else torch.contiguous_format

    def load() -> tuple[Tensor, Tensor]:
        nonlocal order, place
        if place + batch > len(order):
            order, place = torch.randperm(spec["images"], device=device), 0
        chosen, place = order[place : place + batch], place + batch
        found = augment(images[chosen], pad).float().div_(255).sub_(_MEAN).div_(_STD)
        return found.contiguous(memory_format=layout), labels[chosen]

    def steps(count: int) -> int:
        with products(spec["precision"], device):
            for _ in range(count):
                x, y = load()
                with autocast(spec["precision"], device):
                    with torch.no_grad():
                        taught = teacher(x)
                    logits = student(x)
                    loss = F.cross_entropy(logits, y) + _kl(logits, taught)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        return count * batch

    return steps


def _network(spec: dict[str, Any], role: str, device: torch.device) -> Any:
    name, options = spec[role]
    model = create_model(name, num_classes=spec["classes"], data_size=spec["size"], norm="none", seed=0, **options)
    network = model.backbone.to(device).train()
    return network.to(memory_format=torch.channels_last) if spec["channels_last"] else network


def _kl(logits: Tensor, taught: Tensor) -> Tensor:
    ours, theirs = (F.log_softmax(z.float() / _TEMPERATURE, dim=1) for z in (logits, taught))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * _TEMPERATURE**2


def augment(images: Tensor, pad: int) -> Tensor:
    """Each image cropped at a place of its own, and flipped or not: (B, 3, H, W) uint8."""
    count, _, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    flip = torch.rand(count, 1, device=device) < 0.5
    columns = torch.where(flip, width - 1 - columns, columns)
    if pad:
        images = F.pad(images, (pad,) * 4)
        rows = rows + torch.randint(0, 2 * pad + 1, (count, 1), device=device)
        columns = columns + torch.randint(0, 2 * pad + 1, (count, 1), device=device)
    number = torch.arange(count, device=device)[:, None, None]
    return images.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
