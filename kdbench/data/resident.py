"""A data set in memory that lives on a GPU: copied there once, for all who load from it."""

from __future__ import annotations

import logging
import threading

import torch
from torch import Tensor

from kdbench.data.source import MemorySplit, Split

log = logging.getLogger(__name__)
#: of a GPU's free memory a split may take one part in so many
_SHARE = 4
_lock = threading.Lock()


class Resident:
    """The images (N, 3, H, W) uint8 and labels (N,) int64 of a split on a device."""

    def __init__(self, split: MemorySplit, device: torch.device) -> None:
        self.images, self.labels = split.images.to(device), split.labels.to(device)

    def fetch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) int64 on the device -> (B, 3, H, W) uint8 and (B,) int64."""
        return self.images.index_select(0, positions), self.labels.index_select(0, positions)


def resident(split: Split, device: torch.device) -> Resident | None:
    """The copy of a split on a GPU, the same for all who ask; None for image files, for other devices, and for a split that would
    take more than a quarter of the memory that is free when it is first asked for."""
    if device.type != "cuda" or not isinstance(split, MemorySplit):
        return None
    with _lock:
        if device not in split.copies:
            size = split.images.nbytes + split.labels.nbytes
            fits = size * _SHARE < free_bytes(device)
            log.debug("%d bytes of images %s on %s", size, "stay" if fits else "are too many to stay", device)
            split.copies[device] = Resident(split, device) if fits else None
        return split.copies[device]


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that nobody uses."""
    return torch.cuda.mem_get_info(device)[0]
