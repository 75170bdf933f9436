"""Weights of a network of three channels for one of grey images, and the other way round."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor, nn

from kdbench.models.backbone.channels import first_convolution

log = logging.getLogger(__name__)


def adapt_channels(backbone: nn.Module, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """``state`` with the kernels of the first convolution for as many channels as the network reads, where one of the two has
    three channels and the other one.

    Three are summed, as by timm's ``adapt_input_conv``; one is repeated, a third of it in each. On grey images (three equal
    channels) either network computes what the other did.

    Args:
        backbone: the network.
        state: its tensors by key.
        source: what the message calls the file.
    """
    key = f"{first_convolution(backbone)}.weight"
    needed, found = backbone.state_dict().get(key), state.get(key)
    if needed is None or found is None or needed.dim() != 4 or found.dim() != 4 or not found.is_floating_point():
        return dict(state)
    channels = (found.shape[1], needed.shape[1])
    if channels not in ((3, 1), (1, 3)) or found.shape[0] != needed.shape[0] or found.shape[2:] != needed.shape[2:]:
        return dict(state)
    log.info("%s: %s is for images of %d channels; adapted to %d", source, key, *channels)
    wide = found.float()
    changed = wide.sum(1, keepdim=True) if channels == (3, 1) else wide.repeat(1, 3, 1, 1) / 3
    return {**state, key: changed.to(found.dtype)}
