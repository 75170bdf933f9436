"""Processes of one run, forked and joined as ``torchrun`` joins its own, each with its output in a file."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """How processes ended: their exit codes, what each wrote, and the seconds until the last had ended."""

    codes: list[int | None]
    texts: list[str]
    seconds: float

    @property
    def lines(self) -> list[str]:
        """The messages of all, as a terminal would show them."""
        return [line for text in self.texts for line in text.splitlines() if line.startswith("kdbench: ")]


def forked(folder: Path, work: Callable[[int], object], world: int = 2, seconds: float = 90.0) -> Ended:
    """Run ``work(rank)`` in each process; what it returns is the exit code, None = 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def child(rank: int) -> None:
        for number in (1, 2):
            os.dup2(os.open(folder / f"rank{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        for name, number in (("stdout", 1), ("stderr", 2)):
            stream = open(number, "w", buffering=1, closefd=False)  # noqa: SIM115 - it lives as long as the process
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "RANK": str(rank)}
        os.environ.update(place)
        code = work(rank)
        sys.exit(code if isinstance(code, int) else 0)

    context = multiprocessing.get_context("fork")
    every = [context.Process(target=child, args=(rank,)) for rank in range(world)]
    began = time.monotonic()
    for process in every:
        process.start()
    for process in every:
        process.join(max(0.1, seconds - (time.monotonic() - began)))
    took = time.monotonic() - began
    hanging = [process for process in every if process.is_alive()]
    for process in hanging:
        process.kill()
        process.join()
    assert not hanging, "the processes wait for each other"
    files = [folder / f"rank{rank}.txt" for rank in range(world)]
    texts = [file.read_text(errors="replace") if file.exists() else "" for file in files]
    return Ended([process.exitcode for process in every], texts, took)


def settings(folder: Path, **extra: Any) -> dict[str, Any]:
    """Of a small run."""
    return {
        **{
            "DATASET.TYPE": "fake",
            "DATASET.OPTIONS": {"size": 8, "train": 64, "test": 32},
            "DISTILLER.STUDENT": "small_cnn",
        },
        **{"AUGMENT.CROP": "none", "SOLVER.BATCH_SIZE": 16, "SOLVER.EPOCHS": 2, "SOLVER.LR": 0.05},
        **{"DATASET.NUM_WORKERS": 0, "RUNTIME.DEVICE": "cpu", "LOG.PREFIX": str(folder / "runs"), **extra},
    }


def words(folder: Path, **extra: Any) -> list[str]:
    """The command that trains it."""
    return ["train", *(f"{key}={value}" for key, value in settings(folder, **extra).items())]
