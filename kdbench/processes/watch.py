"""A thread that tells of its process, judges the others, and ends its process when another is gone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from kdbench.errors import KdbenchError, RunStoppedError
from kdbench.escape import visible
from kdbench.processes.board import Beat, Board, End
from kdbench.processes.verdict import SILENCE, Judge, Steps
from kdbench.stopping import EXIT_CODE

#: seconds between looks
INTERVAL = 0.5
#: seconds in which an error that one process met may come up in the others, too
GRACE = 3.0
#: seconds in which the teller has told; then others do
TELLING = 10.0
GOES_ON = "; the same command goes on from the last checkpoint"
_PEER = ("gloo", "nccl", "peer", "connection", "socket", "tcpstore", "broken pipe")


class Watch:
    """One process's watch over the others, from :meth:`start` to :meth:`leave` or :meth:`fail`.

    The main process watches all, the others watch the main one. Which is gone is known at once on the same machine, by its
    silence elsewhere. An error of one ends all; where all meet it, it is each one's own, and only the main process speaks.

    Args:
        board: of all processes.
        hosted: the store is the main process's own and ends with it; else the launcher's.
    """

    def __init__(self, board: Board, *, hosted: bool) -> None:
        self.board, self.rank, self.hosted = board, board.rank, hosted
        self.steps = Steps()
        #: whether another process has told the user how this one ends
        self.told_by_another = False
        self._others = [r for r in range(board.world) if r != self.rank] if self.rank == 0 else [0]
        self._count = 0
        self._failing, self._stop = threading.Event(), threading.Event()
        self._asked: float | None = None
        self._thread = threading.Thread(target=self._run, name="kdbench-watch", daemon=True)
        self._guard = threading.Thread(target=self._run_guard, name="kdbench-watch-guard", daemon=True)

    def start(self) -> None:
        """Wait for all, and begin.

        Raises:
            KdbenchError: some do not come.
        """
        self._judge = Judge(self.board.introduce())
        self._thread.start()
        self._guard.start()

    def leave(self) -> None:
        """This process has done its part. The main one waits for the others, whose errors it would tell."""
        if self.rank == 0:
            while self._thread.is_alive() and not self._all_left():
                time.sleep(0.05)
        self._part()

    def fail(self, error: BaseException) -> None:
        """This process ends by an error: tell the others. Where the error is that another is gone, this does not return."""
        if self._failing.is_set():
            return
        if _of_a_peer(error):
            self._thread.join(SILENCE + TELLING)
        self._failing.set()
        try:
            end = self.board.announce(End(self.rank, True, self._failure(error), exit_code(error), 0))
            if self.rank == 0:
                if end.failed:
                    self.board.tell()
                _until(self._all_left, TELLING)
            else:
                self.told_by_another = _until(self.board.told, GRACE + TELLING)
            self._part()
        except RuntimeError:  # the store is gone: each for itself
            self._stop.set()

    def terminated(self) -> None:
        """The process was told to end, as launchers do when another is gone: if so, say that; else return."""
        self._thread.join(4 * INTERVAL)
        self._part()

    def _part(self) -> None:
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(TELLING)
        try:
            self.board.beat(Beat(self._count + 1, left=True))
        except RuntimeError:
            return  # nobody is there to read it

    def _all_left(self) -> bool:
        ended = self._judge.ended(self._others)
        return all(beat.left or rank in ended for rank, beat in self.board.beats(self._others).items())

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                self._asked = time.monotonic()
                end = self._look()
                self._asked = None
            except RuntimeError:
                self._store_lost("is gone")
                return
            if end is not None and not self._stop.is_set():
                self._end(end)
                return

    def _run_guard(self) -> None:
        """A store whose process is frozen, or whose machine is gone, does not answer, and its calls do not end."""
        while not self._stop.wait(INTERVAL):
            asked = self._asked
            if asked is not None and time.monotonic() - asked > SILENCE:
                self._store_lost(f"has not answered for {SILENCE:.0f} s")

    def _store_lost(self, what: str) -> None:
        """What the store ran in is lost, and with it all means to agree on who tells that."""
        who = self._judge.name(0) if self.hosted else "the launcher of this run"
        end = End(0, False, f"{who} {what}{GOES_ON}", EXIT_CODE, int(self.hosted))
        if not (self._failing.is_set() or self._stop.is_set()):
            if self.hosted:
                self._judge.places[0].kill()  # a frozen one would outlive the others
            self._exit(end, told=self.rank != end.teller)

    def _look(self) -> End | None:
        self._count += 1
        own = self.steps.beat(self._count)
        self.board.beat(own)
        found = self.board.end()
        if found is not None:
            return found
        ended = self._judge.ended(self._others)
        beats = self.board.beats(self._others)
        wrong = self._judge.gone(beats, ended)
        if wrong is None and self.rank == 0:
            wrong = self._judge.stuck({0: own, **beats})
        if wrong is None:
            return None
        rank, what = wrong
        message = f"{self._judge.name(rank)} {what}{GOES_ON}"
        return self.board.announce(End(rank, False, message, EXIT_CODE, 0 if rank else self.rank))

    def _end(self, end: End) -> None:
        """End this process, unless its main thread is about to do so by an error of its own."""
        if end.failed and (end.rank == self.rank or self._failing.wait(GRACE)):
            return
        try:
            if end.teller == self.rank:
                told = not self.board.tell()
            else:
                told = _until(self.board.told, TELLING) or not self.board.tell()
            self.board.beat(Beat(self._count + 1, left=True))
            if self.rank == 0:
                _until(self._all_left, GRACE + TELLING if end.failed else 2 * INTERVAL)
        except RuntimeError:
            told = self.rank != end.teller
        if end.teller == self.rank != end.rank:
            self._judge.places[end.rank].kill()  # a frozen one would outlive the others
        self._exit(end, told=told)

    def _exit(self, end: End, *, told: bool) -> None:
        stream = sys.__stderr__
        if not told and stream is not None:
            # in one piece: others may write to the same terminal
            stream.write(f"kdbench: {end.message}\n")
            stream.flush()
        os._exit(end.code)

    def _failure(self, error: BaseException) -> str:
        text = " ".join(visible(part) for part in str(error).split())[:2000]
        if isinstance(error, KdbenchError):
            return f"{self._judge.name(self.rank)}: {text}"
        if isinstance(error, KeyboardInterrupt):
            return f"{self._judge.name(self.rank)} was interrupted{GOES_ON}"
        about = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return f"{self._judge.name(self.rank)} failed: {about}{GOES_ON}"


def exit_code(error: BaseException) -> int:
    """With which a process ends by an error: as the command line does."""
    if isinstance(error, KdbenchError):
        return EXIT_CODE if isinstance(error, RunStoppedError) else 2
    return 130 if isinstance(error, KeyboardInterrupt) else 70


def _of_a_peer(error: BaseException) -> bool:
    """Whether an error may come of another process's end: what PyTorch's communication says then has no type of its own."""
    if not isinstance(error, (RuntimeError, ConnectionError)):
        return False
    text = str(error).lower()
    return any(word in text for word in _PEER)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until it holds; whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
