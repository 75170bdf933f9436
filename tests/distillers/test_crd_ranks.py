"""CRD's banks over two processes: each rank sees a part of every batch, and the banks are those of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing

from kdbench.distillers.crd import crd_loss
from kdbench.distillers.parts.ranks import AllRanks
from kdbench.errors import LossError

#: where each step's batch is cut; the samples of a batch; the second is an epoch's last
CUTS, SIZES = (4, 4), (8, 6)


def steps(rank: int | None, gather: Any) -> dict[str, Tensor]:
    """Two steps on a rank's rows, or on all of them; the state that they leave."""
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=1)

    state = {"memory_student": unit(20, 4), "memory_teacher": unit(20, 4)}
    state |= {name: torch.tensor(-1.0, dtype=torch.float64) for name in ("z_student", "z_teacher")}
    for cut, size in zip(CUTS, SIZES):
        student, teacher = unit(size, 4), unit(size, 4)
        # one index occurs in both parts: the later part's row counts
        index = torch.cat((torch.arange(size - 1), torch.tensor([cut - 1])))
        negatives = torch.randint(20, (size, 5), generator=generator)
        rows = slice(None) if rank is None else (slice(cut, None) if rank else slice(cut))
        crd_loss(
            student[rows], teacher[rows], index[rows], negatives[rows], **state,
            temperature=0.07, momentum=0.5, num_data=20, gather=gather,
        )  # fmt: skip
    return state


def meet(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)


def train(rank: int, folder: str) -> None:
    meet(rank, folder)
    torch.save(steps(rank, AllRanks()), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def count(rank: int, folder: str) -> None:
    meet(rank, folder)
    gather, exchanged, whole = AllRanks(), [], distributed.all_gather

    def counted(parts: list[Tensor], tensor: Tensor) -> Any:
        exchanged.append(tuple(tensor.shape))
        return whole(parts, tensor)

    distributed.all_gather = counted
    first = gather(torch.full((3 - rank, 2), float(rank)))
    shares = [gather(torch.arange(2) + 10 * rank), gather(torch.tensor(float(rank)))]
    distributed.all_gather = whole
    with pytest.raises(LossError, match="a share of 4 samples follows a first batch whose largest was 3"):
        gather(torch.zeros(4))
    torch.save({"exchanged": exchanged, "first": first, "shares": shares}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_ranks_keep_the_banks_of_one_process(tmp_path: Path) -> None:
    multiprocessing.spawn(train, (str(tmp_path),), nprocs=2)
    alone = steps(None, lambda tensor: tensor)
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in alone.items():
            torch.testing.assert_close(state[name], value, rtol=1e-12, atol=0)


def test_lengths_are_exchanged_once_and_a_shorter_share_repeats_its_last_row(tmp_path: Path) -> None:
    multiprocessing.spawn(count, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        seen = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert seen["exchanged"] == [(1,), (3, 2), (3,), (1,)]
        assert seen["first"].tolist() == [[0.0, 0.0]] * 3 + [[1.0, 1.0]] * 3
        assert seen["shares"][0].tolist() == [0, 1, 1, 10, 11, 11]
        assert seen["shares"][1].tolist() == [0.0, 1.0]
