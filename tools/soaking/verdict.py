"""What became of one accident, judged by the code with which the command ended and by what it said."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from typing import NamedTuple

from soaking.child import Ended

HEALED, REFUSED, TRACEBACK, CRASH, HANG, WRONG = "healed", "refused", "traceback", "crash", "hang", "silently wrong"
#: in the order of the table's columns
WORDS = (HEALED, REFUSED, TRACEBACK, CRASH, HANG, WRONG)
#: of which there must be none
FAULTS = (TRACEBACK, CRASH, HANG, WRONG)
_TRACES = ("Traceback (most recent call last)", "Fatal Python error", "kdbench: unexpected error")
_SHOWN = 1500  # letters of what a command said last


class Verdict(NamedTuple):
    """One of :data:`WORDS`, what was done, and, of a fault, what was seen."""

    word: str
    accident: str
    seen: str = ""


def judge(
    ended: Ended,
    accident: str,
    figure: Callable[[], str],
    *,
    codes: Collection[int] = (0,),
    refusable: bool = True,
) -> Verdict:
    """The verdict on one command.

    Args:
        ended: how it ended.
        accident: what was done to it.
        figure: says what differs from the undisturbed figure, "" for nothing; asked where the command ended with one of ``codes``.
        codes: with which it may end besides 2, the refusal in one line.
        refusable: whether it may refuse; a run that was killed has to go on.
    """
    fault = fault_of(ended, accident, codes=codes)
    if fault is not None:
        return fault
    if ended.code == 2 and not refusable:
        return Verdict(TRACEBACK, accident, f"it refused what had to go on; {_last(ended.err)}")
    if ended.code == 2 and 2 not in codes:
        return Verdict(REFUSED, accident)
    different = figure()
    return Verdict(WRONG, accident, different) if different else Verdict(HEALED, accident)


def fault_of(
    ended: Ended, accident: str, *, codes: Collection[int] = (0,), sent: Collection[int] = ()
) -> Verdict | None:
    """What is wrong with the way in which a command ended; None for nothing.

    Args:
        ended, accident, codes: as of :func:`judge`.
        sent: signals that were sent to it, by which it may die.
    """
    if ended.code is None:
        return Verdict(HANG, accident, f"it had not ended after {ended.seconds:.0f} s; {_last(ended.err)}")
    if ended.code < 0 and -ended.code not in sent:
        return Verdict(CRASH, accident, f"{signal.Signals(-ended.code).name}; {_last(ended.err)}")
    if any(trace in ended.err for trace in _TRACES):
        return Verdict(TRACEBACK, accident, _last(ended.err))
    if ended.code == 2:
        lines = [line for line in ended.err.splitlines() if line.startswith("kdbench: ")]
        if len(lines) != 1:
            return Verdict(TRACEBACK, accident, f"exit code 2 with {len(lines)} lines; {_last(ended.err)}")
    elif ended.code >= 0 and ended.code not in codes:
        return Verdict(TRACEBACK, accident, f"exit code {ended.code}; {_last(ended.err)}")
    return None


def _last(text: str) -> str:
    return f"it said last: {text[-_SHOWN:].strip()}" if text.strip() else "it said nothing"
