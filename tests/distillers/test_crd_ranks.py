"""CRD's banks over two processes: each rank sees half of a batch, and the banks are those of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing

from kdbench.distillers.crd import all_ranks, crd_loss


def step(rows: slice, gather: Any) -> dict[str, Tensor]:
    """One step on the rows of a batch of eight; the state that it leaves."""
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=1)

    state = {"memory_student": unit(20, 4), "memory_teacher": unit(20, 4)}
    state |= {name: torch.tensor(-1.0, dtype=torch.float64) for name in ("z_student", "z_teacher")}
    student, teacher, index = unit(8, 4), unit(8, 4), torch.arange(8)
    negatives = torch.randint(20, (8, 5), generator=generator)
    crd_loss(
        student[rows], teacher[rows], index[rows], negatives[rows], **state,
        temperature=0.07, momentum=0.5, num_data=20, gather=gather,
    )  # fmt: skip
    return state


def worker(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(step(slice(4 * rank, 4 * rank + 4), all_ranks), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_ranks_keep_the_banks_of_one_process(tmp_path: Path) -> None:
    multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    alone = step(slice(0, 8), lambda tensor: tensor)
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in alone.items():
            torch.testing.assert_close(state[name], value, rtol=1e-12, atol=0)
