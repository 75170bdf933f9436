"""What a policy does with one batch: planned by the host, then done for groups of samples that drew the same operation.

Which operation a sample drew is a function of (seed, epoch, sample), so that the host knows the groups without reading the device
on which the images lie. Each operation runs once a layer, on its group (a geometric one once for each interpolation): on a GPU as
well as on a CPU nothing is computed that is not wanted, where masks would run all fifteen operations on every image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdbench.data.augmentation import forms
from kdbench.data.augmentation.policies.ops import GEOMETRIC, apply_op
from kdbench.data.augmentation.policies.policy import Layer, Policy, Streams
from kdbench.data.augmentation.rows import put_rows, take_rows
from kdbench.transfer import send_all


@dataclass(frozen=True)
class Group:
    """The samples of a batch that drew one operation.

    Attributes:
        name, mode: the operation, and its interpolation.
        rows: (G,) int64, which samples.
        argument: (G,) of the operation.
    """

    name: str
    mode: str
    rows: Tensor
    argument: Tensor


@dataclass(frozen=True)
class PlannedLayer:
    """One layer.

    Attributes:
        groups: disjoint.
        order: (B,) int64, the samples of the groups one after the other, then those to which nothing is done.
        inverse: (B,) int64, the place of each sample in that order.
    """

    groups: tuple[Group, ...]
    order: Tensor
    inverse: Tensor


@dataclass(frozen=True)
class PolicyPlan:
    """The layers of a batch, and the colour outside the images, 0..255."""

    layers: tuple[PlannedLayer, ...]
    fill: tuple[float, float, float]

    def to(self, device: torch.device) -> PolicyPlan:
        """The plan with its tensors on a device, which the host does not wait for."""
        parts = [part for layer in self.layers for part in (layer.order, layer.inverse)]
        arguments = [group.argument for layer in self.layers for group in layer.groups]
        there = iter(send_all([*parts, *arguments], device))
        places = [(next(there), next(there)) for _ in self.layers]
        layers = []
        for layer, (order, inverse) in zip(self.layers, places):
            rows = order.split([*(len(group.rows) for group in layer.groups), self._idle(layer)])
            groups = [replace(g, rows=part, argument=next(there)) for g, part in zip(layer.groups, rows)]
            layers.append(PlannedLayer(tuple(groups), order, inverse))
        return PolicyPlan(tuple(layers), self.fill)

    @staticmethod
    def _idle(layer: PlannedLayer) -> int:
        return len(layer.order) - sum(len(group.rows) for group in layer.groups)

    def run(self, images: Tensor) -> Tensor:
        """Every sample's operations, layer by layer: (B, 3, S, S) uint8, which a CPU writes to, -> the same, uint8."""
        for layer in self.layers:
            if forms.by_host(images):
                for group in layer.groups:
                    put_rows(images, group.rows, self._apply(group, take_rows(images, group.rows)))
                continue
            sizes = [*(len(group.rows) for group in layer.groups), self._idle(layer)]
            *parts, idle = images.index_select(0, layer.order).split(sizes)
            done = [self._apply(group, part) for group, part in zip(layer.groups, parts)]
            images = torch.cat([*done, idle]).index_select(0, layer.inverse)
        return images

    def _apply(self, group: Group, images: Tensor) -> Tensor:
        return apply_op(group.name, images, group.argument, self.fill, group.mode)


def plan_policy(policy: Policy, streams: Streams, side: int, fill: tuple[float, float, float]) -> PolicyPlan:
    """Draw what each sample of a batch does.

    Args:
        policy: what is drawn.
        streams: from the name of a stream to its draws, in the host's memory.
        side: of the images.
        fill: colour outside the image, 0..255; AutoAugment's is black.
    """
    colour = fill if policy.mode == "bilinear" else (0.0, 0.0, 0.0)
    return PolicyPlan(tuple(_plan_layer(policy, layer, side) for layer in policy.draw(streams)), colour)


def _plan_layer(policy: Policy, layer: Layer, side: int) -> PlannedLayer:
    groups = []
    for number in torch.unique(layer.op[layer.applied]).tolist():
        name = policy.names[number]
        drew = (layer.op == number) & layer.applied
        parts = {policy.mode: drew}
        if name in GEOMETRIC:
            parts = {policy.mode: drew & ~layer.cubic, "bicubic": drew & layer.cubic}
        for mode, part in parts.items():
            rows = torch.nonzero(part).flatten()
            if len(rows):
                groups.append(Group(name, mode, rows, policy.argument(name, layer, rows, side)))
    order = torch.cat([*(group.rows for group in groups), torch.nonzero(~layer.applied).flatten()])
    return PlannedLayer(tuple(groups), order, torch.argsort(order))
