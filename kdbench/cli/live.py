"""A grid while it runs, on a terminal: how much is done, what runs, the means so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from kdbench.cli.progress import logging_above
from kdbench.errors import KdbenchError
from kdbench.escape import visible

if TYPE_CHECKING:
    from kdbench.bench.grids.status import Status

_EVERY = 2.0  # seconds between looks at the folder
_RUNNING, _FAILED = 6, 3  # lines of runs under way, and of reasons why runs failed
_WIDTH, _NAME = 17, 20  # columns of a pair, and of a method's name


class Board:
    """What a grid's folder says, as a rich renderable that looks again every two seconds.

    Args:
        folder: the grid's.
    """

    def __init__(self, folder: str | Path) -> None:
        from kdbench.bench.grids.grid_record import reader_of

        self.folder, self.results = folder, reader_of(folder)
        #: seconds until the last run is over, where that is known
        self.left: Callable[[], float | None] = lambda: None
        self._status: Status | None = None
        self._looked = float("-inf")

    def look(self) -> Status | None:
        """Where the grid stands; None before it has begun."""
        from kdbench.bench.grids.status import grid_status

        if time.monotonic() - self._looked >= _EVERY:
            try:
                self._status = grid_status(self.folder, self.results)
            except KdbenchError:
                self._status = None
            self._looked = time.monotonic()
        return self._status

    def follow(self, left: Callable[[], float | None]) -> None:
        """Take the time that is left from here, from now on."""
        self.left = left

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        status = self.look()
        if status is not None:
            yield from drawn(status, self.left(), options.max_width, console.size.height)


def drawn(status: Status, left: float | None, width: int, height: int) -> Iterator[Any]:
    """The lines of a board.

    Args:
        status: of the grid.
        left: seconds that it still takes; None where that is not known.
        width, height: of the terminal, in signs and lines; the board is no larger.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from kdbench.bench.grids.status import grouped
    from kdbench.bench.machine.time_left import duration

    total = status.total
    count, ended = sum(total.values()), total["done"] + total["failed"]
    trials = (
        f" {status.trials['done'] + status.trials['failed']}/{sum(status.trials.values())} trials,"
        if status.trials
        else ""
    )
    words = f"{trials} {ended}/{count} cells" + (f", {total['failed']} failed" if total["failed"] else "")
    words += f", about {duration(left)} left" if left else ""
    head = Table.grid(expand=False)
    name = Text(visible(status.name)[: width // 4] + " ", no_wrap=True, overflow="ellipsis")
    head.add_row(
        name,
        ProgressBar(max(1, count), ended, width=max(4, width - len(name) - len(words))),
        Text(words, no_wrap=True, overflow="ellipsis"),
    )
    yield head
    shown = list(status.running.items())[: min(_RUNNING, max(1, height // 4))]
    for label, where in shown:
        yield Text(_line(visible(label), _epoch(where), width), no_wrap=True, overflow="ellipsis")
    if len(status.running) > len(shown):
        yield Text(f"and {len(status.running) - len(shown)} more are running")
    reasons = grouped(status.failed)[: min(_FAILED, height // 8)]
    for line in reasons:
        yield Text(visible(line), style="red", no_wrap=True, overflow="ellipsis")
    room = height - len(shown) - len(reasons) - 6
    if status.top1 and room >= 2:
        yield from _means(status, width, room)


def _line(label: str, end: str, width: int) -> str:
    room = max(0, width - len(end) - 1)
    return f"{label[:room]:<{room}} {end}"


def _epoch(where: str) -> str:
    """Of a run's whereabouts the epoch that it has reached."""
    found = [part for part in where.split(", ") if part.startswith("epoch ")]
    return found[0] if found else "begins"


def _means(status: Status, width: int, room: int) -> Iterator[Any]:
    from rich.table import Table
    from rich.text import Text

    pairs = [pair for pair in status.pairs if any(p == pair for p, _ in status.top1)]
    columns = pairs[: max(1, (width - _NAME) // _WIDTH)]
    methods = [m for m in status.methods if any((pair, m) in status.top1 for pair in columns)]
    rows = methods[: room - 1] if len(methods) > room else methods
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(
        Text("top-1 so far", style="bold"),
        *(Text(visible(p)[: _WIDTH - 2], style="bold", no_wrap=True) for p in columns),
    )
    for method in rows:
        cells = [status.top1.get((pair, method), []) for pair in columns]
        texts = [f"{fmean(values):.2f} ({len(values)})" if values else "" for values in cells]
        table.add_row(Text(visible(method)[: _NAME - 2], no_wrap=True), *texts)
    yield table
    hidden = [
        f"{many} more {what}"
        for many, what in ((len(methods) - len(rows), "methods"), (len(pairs) - len(columns), "pairs"))
        if many
    ]
    if hidden:
        yield Text(f"and {', '.join(hidden)}: kdbench table")


@contextmanager
def live_board(folder: str | Path) -> Iterator[tuple[Callable[[str], None], Board | None]]:
    """A function that prints a line, and on a terminal the board below these lines."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda line: print(visible(line), flush=True), None
        return
    board = Board(folder)
    with Live(board, console=console, refresh_per_second=2, transient=True) as live, logging_above(live):
        yield lambda line: console.print(Text(visible(line)), soft_wrap=True), board
