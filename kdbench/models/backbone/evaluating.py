"""A network in evaluation mode for a while, and a pass on the meta device, on which nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode is put back afterwards, also of a frozen part."""
    modes = {module: module.training for network in networks for module in network.modules()}
    for network in networks:
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def on_meta(network: nn.Module, *shapes: tuple[int, ...]) -> Any:
    """What ``network`` returns for inputs of these shapes, as tensors of the meta device.

    Raises:
        NotImplementedError, RuntimeError, TypeError, ValueError, AssertionError: it cannot be run there.
    """
    tensors: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    twins = {key: torch.empty_like(value, device="meta") for key, value in tensors.items()}
    inputs = tuple(torch.empty(*shape, device="meta") for shape in shapes)
    # A module under two names (CoaT's MLPs) would be swapped twice, and put back wrongly, with tied weights.
    return functional_call(network, twins, inputs, tie_weights=False)
