"""Requests to stop: the signals with which schedulers announce that they take the machine away.

Within :func:`watched` they end nothing by themselves. Who trains looks at :func:`asked` after every step, saves, and raises
:class:`~kdbench.errors.RunStoppedError`; a command then exits with :data:`EXIT_CODE`, and the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from kdbench.errors import RunStoppedError

#: of a command that was stopped: "temporary failure, try again" (EX_TEMPFAIL of sysexits.h), which launchers may act on
EXIT_CODE = 75
#: SIGTERM: Slurm, Kubernetes, torchrun; SIGUSR1: Slurm's ``--signal``, LSF; SIGHUP: a terminal that is closed
SIGNALS = tuple(name for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))

_asked = ""


def asked() -> str:
    """Name of the first signal that asked this process to stop; empty where none did."""
    return _asked


def check(where: str = "") -> None:
    """Stop here if that was asked for.

    Args:
        where: what was interrupted, for the message.

    Raises:
        RunStoppedError: a signal asked for it.
    """
    if _asked:
        raise RunStoppedError(f"stopped by {_asked}{where and f' {where}'}; the same command goes on")


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Inside, the signals wait, also for processes that this thread starts: until they say ``watch(held=True)``."""
    before = _mask("SIG_BLOCK")
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _mask(how: str) -> set[int | signal.Signals] | None:
    """Change which of the signals wait; returns what waited before, where there is such a thing."""
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(getattr(signal, how), {getattr(signal, name) for name in SIGNALS})


def watch(*, held: bool = False) -> list[str]:
    """From now on take signals as requests, where they would have ended the process; returns the names of those signals. Only the
    main thread can; in others nothing is changed. ``held``: whoever started this process did so while they were
    :func:`held_back`; they arrive now."""
    if threading.current_thread() is not threading.main_thread():
        return []
    # one that is ignored (nohup) stays ignored, and somebody else's handler stays in charge
    taken = [name for name in SIGNALS if signal.getsignal(getattr(signal, name)) is signal.SIG_DFL]
    for name in taken:
        signal.signal(getattr(signal, name), _note)
    if held:
        _mask("SIG_UNBLOCK")
    return taken


def ignore() -> None:
    """The process has been stopped and is about to end: what is sent once more does not change its exit code."""
    if threading.current_thread() is threading.main_thread():
        for name in SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_IGN)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """:func:`watch` inside. Nested in another, it leaves signals and request to the outer one."""
    global _asked
    taken = watch()
    try:
        yield
    finally:
        for name in taken:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        if taken:
            _asked = ""


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = _asked or signal.Signals(number).name
