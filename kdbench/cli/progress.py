"""Progress bars, on a terminal only."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def training_progress(epochs: int, *, enabled: bool = True) -> Iterator[Callable[[int, int, int], None] | None]:
    """A bar over all steps of a run, on stderr; None where that is no terminal."""
    if not (enabled and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar, logging_above(bar):
        task = bar.add_task("train", total=None, epoch="")

        def advance(epoch: int, step: int, steps: int) -> None:
            done = max(0, (epoch - 1) * steps + step)  # a method's first phase stands before epoch 1
            at = f"{epoch}/{epochs}" if epoch > 0 else f"0/{epochs} (first phase, {1 - epoch} to go)"
            bar.update(task, total=epochs * steps, completed=done, epoch=at)

        yield advance


@contextmanager
def logging_above(bar: object) -> Iterator[None]:
    """Send log lines through the bar's console, so that they do not tear it."""
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
    streams = [handler.stream for handler in handlers]
    for handler in handlers:
        handler.setStream(sys.stderr)  # rich has replaced sys.stderr while the bar lives
    try:
        yield
    finally:
        for handler, stream in zip(handlers, streams):
            handler.setStream(stream)
