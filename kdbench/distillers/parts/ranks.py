"""Tensors of all processes of a run, stacked."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from kdbench.errors import LossError


class AllRanks:
    """Stacks the tensors of all processes along dimension 0; the tensor itself where there is one process.

    ``all_gather`` takes equal lengths only, and the shares of a batch may differ by a pair of samples. Lengths are exchanged at the
    first call alone, so that no later step waits for them: an epoch's first batch is its largest. A shorter share repeats its last
    row, which changes nothing where the last of equal rows counts. A tensor without dimensions gives one number a process.
    """

    def __init__(self) -> None:
        self.most = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        """(n, ...) -> (world * longest, ...), or () -> (world,).

        Raises:
            LossError: more rows than any process had at the first call.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return tensor
        if tensor.dim() == 0:
            return torch.cat(_gathered(tensor.view(1)))
        if not self.most:
            self.most = int(torch.cat(_gathered(torch.tensor([len(tensor)], device=tensor.device))).max())
        missing = self.most - len(tensor)
        if missing < 0:
            raise LossError(f"a share of {len(tensor)} samples follows a first batch whose largest was {self.most}")
        return torch.cat(_gathered(torch.cat((tensor, tensor[-1:].expand(missing, *tensor.shape[1:])))))


def _gathered(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return parts
