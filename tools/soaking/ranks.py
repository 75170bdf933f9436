"""A run of two processes of which one is killed or frozen at a random moment: all end, one line, and then the same bytes."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from pathlib import Path

from tiny_run import content

from soaking.child import Child, Ended, command
from soaking.place import Calm, Place, difference, expect_done, run_in, train
from soaking.verdict import HANG, TRACEBACK, Verdict, fault_of, judge

_METHOD = "KD"
#: what survivors may end with: told to go on (75), or where the others did not come (2)
_CODES = (0, 75)
_ALL = 90.0  # seconds in which all have to end


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """Kill or freeze one process of two, and let the same command end."""
    calm = place.once("two processes", _calm)
    victim, how = chance.randrange(2), chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
    moment = chance.uniform(0, 1.1) * calm.seconds
    accident = f"process {victim} of 2: {how.name} after {moment:.2f} s"
    with place.case() as folder:
        children = _start(folder)
        time.sleep(moment)
        children[victim].kill(how)
        found = [child.wait(_ALL) for child in children]
        for rank, done in enumerate(found):
            sent = (how, signal.SIGKILL) if rank == victim else ()
            fault = fault_of(done, f"{accident}; process {rank}", codes=_CODES, sent=sent)
            frozen = fault is not None and fault.word == HANG and rank == victim
            if fault is not None and not (frozen and (_ended_without(found, victim) or _never_came(found, victim))):
                return [fault]
        lines = [line for done in found for line in done.err.splitlines() if line.startswith("kdbench: ")]
        if len(lines) > 1:
            return [Verdict(TRACEBACK, accident, f"more than one line: {lines}")]
        last = [child.wait(_ALL) for child in _start(folder)]
        worst = next((done for done in last if done.code != 0), last[0])
        return [judge(worst, accident, lambda: difference(folder, calm.content), refusable=False)]


def _ended_without(found: list[Ended], victim: int) -> bool:
    """Whether the other one was done before its fellow was frozen at its very end, which then waits for nobody."""
    return found[1 - victim].code == 0


def _never_came(found: list[Ended], victim: int) -> bool:
    """Whether it was frozen before it had met the other one, which gave it up without knowing whom to end."""
    told = found[1 - victim]
    missed = any(
        words in told.err for words in (f"process {victim} of 2 did not come", "did not meet at", "nobody answered")
    )
    return told.code == 2 and missed and not found[victim].err


def _calm(folder: Path) -> Calm:
    began = time.monotonic()
    for child in _start(folder):
        expect_done(child.wait(_ALL))
    run = run_in(folder)
    return Calm(run, content(run), time.monotonic() - began)


def _start(folder: Path) -> list[Child]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank: int) -> int:
        from kdbench.processes import board, verdict, watch

        # so that silence is found out in seconds; what it is measured in is the same
        watch.INTERVAL, watch.GRACE, board.JOINING = 0.2, 2.0, 15.0
        verdict.SILENCE = watch.SILENCE = verdict.STILL = 8.0
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", RANK=str(rank))
        return command(*train(folder, _METHOD))()

    return [Child(lambda rank=rank: work(rank)) for rank in range(2)]  # type: ignore[misc]
