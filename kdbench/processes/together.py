"""From the first process's start to the last one's end: they meet, are watched, compare what they have, and leave."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kdbench.processes.board import Board, compare, connect, meet
from kdbench.processes.place import rank_and_world
from kdbench.processes.watch import Watch

if TYPE_CHECKING:
    from torch.distributed import Store

_store: Store | None = None
_watch: Watch | None = None
_periods = itertools.count()
_comparisons = itertools.count()


@contextlib.contextmanager
def together() -> Iterator[Watch | None]:
    """Inside, the processes of a run watch each other, and an error of one ends all; None where there is one process. Within
    another one this does nothing.

    Raises:
        ConfigError: several processes, and nothing says where they meet.
        KdbenchError: some do not come.
    """
    global _watch
    rank, world = rank_and_world()
    if world == 1 or _watch is not None:
        yield _watch
        return
    shared_store()
    period = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_periods)}"
    from torch.distributed import PrefixStore

    board = Board(PrefixStore(f"kdbench/watch/{period}", connect()), rank, world)
    watch = Watch(board, hosted=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True))
    watch.start()
    _watch = watch
    try:
        with _told_to_end(watch):
            try:
                yield watch
            except BaseException as error:
                watch.fail(error)
                raise
            watch.leave()
    finally:
        _watch = None


def current() -> Watch | None:
    """The watch of this process, within :func:`together`."""
    return _watch


def shared_store() -> Store:
    """The store through which the processes met, for the main thread."""
    global _store
    if _store is None:
        _store = meet()
    return _store


def agree(what: str, facts: dict[str, Any]) -> None:
    """Refuse to go on where the processes differ in something; every process comes here, in the same order.

    Args:
        what: of the facts, in a word.
        facts: by what they are, as JSON can hold them.

    Raises:
        ConfigError: they differ, in all processes alike.
    """
    rank, world = rank_and_world()
    if world > 1:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        compare(shared_store(), rank, world, f"kdbench/{what}/{attempt}/{next(_comparisons)}", facts)


@contextlib.contextmanager
def _told_to_end(watch: Watch) -> Iterator[None]:
    """Launchers end the others as soon as one process is dead, before those could say so: they take the time of a look. A handler
    of somebody else's is left alone."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, _: Any) -> None:
        watch.terminated()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
