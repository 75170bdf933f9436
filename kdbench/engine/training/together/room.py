"""How many students fit beside each other: measured at each one's first step."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from kdbench.engine.runtime import peak_rss_bytes

#: of the memory that is free at the beginning, what the students may take together
_SHARE = 0.85


class Room:
    """The memory of a device, and what each student was seen to take of it at its first step.

    A captured step keeps the memory of its intermediate results, so the largest moment of each counts, not the largest of all.

    Args:
        device: of the students.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.budget = _SHARE * free_bytes(device)
        self.taken: list[int] = []

    def fits(self) -> bool:
        """Whether there is room for another as large as the largest so far."""
        return not self.taken or sum(self.taken) + max(self.taken) <= self.budget

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Count what is taken inside."""
        before = _start(self.device)
        yield
        self.taken.append(max(0, _peak(self.device) - before))


def free_bytes(device: torch.device) -> float:
    """Memory that nobody uses; infinite where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return float("inf")


def _start(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    return _peak(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # the largest so far: a student that takes no more than the one before it took at its peak counts as nothing
    return peak_rss_bytes().get("peak_rss_bytes", sys.maxsize)
