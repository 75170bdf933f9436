"""Tensors on their way from a GPU to the host, who looks at them when they are there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

#: transfers under way, of which the oldest is waited for when there are more: some steps, and little memory
_MOST = 8


class Arrivals:
    """Hands tensors over in the order in which they were sent: at once where they lie in the host's memory, else as soon as
    something is asked of it after they have arrived.

    Args:
        device: where they come from.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._under_way: deque[tuple[torch.cuda.Event, list[Tensor], Callable[[list[Tensor]], None]]] = deque()

    def add(self, tensors: list[Tensor], take: Callable[[list[Tensor]], None]) -> None:
        """Send tensors; ``take`` is given them in the host's memory. What it raises is raised here, or by a later call."""
        if self.device.type != "cuda":
            take(tensors)
            return
        here = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True) for t in tensors]
        event = torch.cuda.Event()
        event.record()
        self._under_way.append((event, here, take))
        while self._under_way and (len(self._under_way) > _MOST or self._under_way[0][0].query()):
            self._take_first()

    def take_all(self) -> None:
        """Wait for all that are under way."""
        while self._under_way:
            self._take_first()

    def forget(self) -> None:
        """Hand over nothing of what is under way."""
        self._under_way.clear()

    def _take_first(self) -> None:
        event, here, take = self._under_way.popleft()
        event.synchronize()
        take(here)
