"""GPUs: their names and memory, and which runs have room on one beside each other."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: of a card's memory, what runs may take together
SHARE = 0.85
#: bytes that a process takes of a card besides its tensors: CUDA's context, kernels, the workspaces of cuBLAS and cuDNN
CONTEXT = 768 * 2**20
#: reserved by PyTorch's allocator for each byte of tensors at their peak, where only the latter are known
RESERVED = 1.25
_WAIT = 20.0  # seconds that nvidia-smi has


@dataclass
class Card:
    """A GPU: its name as PyTorch has it, and its memory in bytes; 0 where that is not known yet."""

    name: str = ""
    total: int = 0


def query_cards(gpus: Sequence[str]) -> list[Card]:
    """What ``nvidia-smi`` says of these GPUs (numbers or UUIDs); asking CUDA itself would take memory of each for this process. A
    card of which it says nothing has no name and a memory of 0."""
    return [_query(gpu) for gpu in gpus]


def _query(gpu: str) -> Card:
    words = ["nvidia-smi", "-i", gpu, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=_WAIT, check=True).stdout
        name, _, mebibytes = told.strip().rpartition(",")
        return Card(name.strip(), int(mebibytes) * 2**20)
    except (OSError, subprocess.SubprocessError, ValueError):
        return Card()


def memory_report() -> dict[str, int]:
    """Of this process and its GPU, in bytes: ``gpu_total``, ``gpu_free`` (of all processes), ``gpu_bytes`` (the most that PyTorch
    has reserved here); empty in a process that has not used a GPU."""
    import torch

    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return {}
    free, total = torch.cuda.mem_get_info()
    return {"gpu_total": total, "gpu_free": free, "gpu_bytes": torch.cuda.max_memory_reserved()}


def release_memory() -> None:
    """Give back what PyTorch keeps of the GPU for later, and measure anew; a process that has not used one is left alone."""
    import gc

    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@dataclass
class _Guest:
    """A task on a card: its kind, and whether nobody may be beside it."""

    kind: str
    alone: bool
    had_company: bool = False


@dataclass
class CardRoom:
    """Which tasks have room on one card beside each other.

    The memory of a task is that of the largest of its kind so far. A task of which that is not known is alone on the card until
    its own is reported.

    Args:
        total: bytes of the card; 0 = not known until a worker reports them.
        measures: bytes by kind, shared by all cards.
        guarded: False lets every task in that need not be alone.
    """

    total: int
    measures: dict[str, int]
    guarded: bool = True
    processes: int = 0  # workers that have a context on the card, at work or idle
    elsewhere: int = 0  # bytes of other programs
    guests: dict[int, _Guest] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether some task may begin here now."""
        if any(guest.alone for guest in self.guests.values()):
            return False
        return not any(self.awaits(guest.kind) for guest in self.guests.values())

    def awaits(self, kind: str) -> bool:
        """Whether it is still to be learnt what a task of this kind takes of this card."""
        return self.guarded and not (self.total and kind in self.measures)

    def fits(self, kind: str, *, alone: bool = False, fresh: bool = False) -> bool:
        """Whether a task may begin here now, ``fresh``: in a worker that is not there yet."""
        if not self.guests:
            return True
        if alone or not self.is_open or self.awaits(kind):
            return False
        if not self.guarded:
            return True
        kinds = [kind, *(guest.kind for guest in self.guests.values())]
        needed = sum(self.measures[k] for k in kinds) + CONTEXT * (self.processes + fresh) + self.elsewhere
        return needed <= SHARE * self.total

    def enter(self, number: int, kind: str, *, alone: bool = False) -> None:
        """A task begins."""
        self.guests[number] = _Guest(kind, alone, bool(self.guests))
        if len(self.guests) > 1:
            for guest in self.guests.values():
                guest.had_company = True

    def leave(self, number: int) -> bool:
        """A task has ended; whether another was on the card meanwhile."""
        return self.guests.pop(number).had_company

    def report(self, kind: str, told: Mapping[str, Any]) -> None:
        """What a worker said of itself and the card, see :func:`memory_report`."""
        if not told:
            return
        self.total = int(told["gpu_total"])
        self.measures[kind] = max(self.measures.get(kind, 0), int(told["gpu_bytes"]))
        known = sum(self.measures.get(guest.kind, 0) for guest in self.guests.values()) + CONTEXT * self.processes
        # others of ours may not have reached their peaks yet, so that this is the least of what is not ours
        self.elsewhere = max(0, self.total - int(told["gpu_free"]) - known)
