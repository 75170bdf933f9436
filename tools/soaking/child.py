"""Commands in processes of their own, which may be killed, hang or crash: forked, so that they begin at once."""

from __future__ import annotations

import faulthandler
import fcntl
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from typing import IO, NamedTuple

#: seconds after which a command hangs; no case takes a hundredth of it on an idle machine
LIMIT = 120.0
_PIPE = 1 << 20  # bytes that a pipe keeps for a reader who comes later
_F_SETPIPE_SZ = 1031  # of Linux; Python 3.10 has a name for it


class Ended(NamedTuple):
    """How a command ended: its exit code (negative: the signal; None: it had to be ended), what it wrote, seconds."""

    code: int | None
    out: str
    err: str
    seconds: float


class Child:
    """A process that does ``work`` and exits with what it returns (None = 0).

    Args:
        work: done in it.
        piped: its output goes to pipes, as beside a limit on the size of files; otherwise to files.
        out: what its stdout is, in the place of either.
        err: the same of its stderr.
    """

    def __init__(
        self, work: Callable[[], int | None], *, piped: bool = False, out: int | None = None, err: int | None = None
    ) -> None:
        self._kept = [_Kept(piped) for _ in range(2)]
        self.began = time.monotonic()
        numbers = [kept.write_end if given is None else given for kept, given in zip(self._kept, (out, err))]
        self.process = multiprocessing.get_context("fork").Process(target=_child, args=(work, numbers))
        self.process.start()
        for kept in self._kept:
            kept.close_write_end()

    def kill(self, number: int) -> None:
        """Send a signal; nothing where it has ended."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def wait(self, limit: float = LIMIT) -> Ended:
        """Wait for its end; after ``limit`` seconds it is made to tell where it is, and killed."""
        self.process.join(max(0.0, limit - (time.monotonic() - self.began)))
        code = self.process.exitcode
        if code is None:
            self.kill(signal.SIGUSR2)
            self.process.join(1.0)
            self.process.kill()
            self.process.join()
        seconds = time.monotonic() - self.began
        out, err = (kept.text() for kept in self._kept)
        return Ended(code, out, err, seconds)


def command(*words: str) -> Callable[[], int]:
    """``kdbench WORDS``."""

    def work() -> int:
        from kdbench.cli.main import main

        return main(words)

    return work


def ended(work: Callable[[], int | None], limit: float = LIMIT) -> Ended:
    """Do it in a process, and wait for that."""
    return Child(work).wait(limit)


class _Kept:
    """What one stream of a process writes."""

    def __init__(self, piped: bool) -> None:
        self._file: IO[bytes] | None = None
        self._read_end = -1
        if piped:
            self._read_end, self.write_end = os.pipe()
            fcntl.fcntl(self._read_end, _F_SETPIPE_SZ, _PIPE)
            os.set_blocking(self._read_end, False)
        else:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it was read
            self.write_end = self._file.fileno()

    def close_write_end(self) -> None:
        if self._file is None:
            os.close(self.write_end)

    def text(self) -> str:
        if self._file is not None:
            self._file.seek(0)
            content = self._file.read()
            self._file.close()
            return content.decode(errors="replace")
        parts = []
        while part := self._part():
            parts.append(part)
        os.close(self._read_end)
        return b"".join(parts).decode(errors="replace")

    def _part(self) -> bytes:
        try:
            return os.read(self._read_end, _PIPE)
        except BlockingIOError:  # a grandchild still has the other end
            return b""


def _child(work: Callable[[], int | None], numbers: list[int]) -> None:
    for name, number, given in zip(("stdout", "stderr"), (1, 2), numbers):
        os.dup2(given, number)
        stream = open(number, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 - it lives as long as the process
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger().handlers.clear()
    faulthandler.enable(sys.__stderr__)
    faulthandler.register(signal.SIGUSR2, file=sys.__stderr__)
    code = work()
    sys.exit(code or 0)
