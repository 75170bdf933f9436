"""Time for each kind of accident, processes that cause them, and the table of what became of them."""

from __future__ import annotations

import gc
import multiprocessing
import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from soaking.kinds import KINDS
from soaking.place import BrokenSoakError, Place
from soaking.verdict import FAULTS, WORDS, Verdict

_TOLD = 30.0  # seconds between lines on how far it is


class Found(NamedTuple):
    """What became of the cases of each kind: counts by kind and word, and the faults as they are told."""

    counts: dict[str, Counter[str]]
    faults: list[str]

    @property
    def clean(self) -> bool:
        """Whether there was none of :data:`soaking.verdict.FAULTS`, and something was tried of each kind."""
        return not self.faults and all(count.total() for count in self.counts.values())

    def table(self) -> str:
        """As Markdown."""
        rows = [["accident", "tried", *WORDS], ["---"] + ["---:"] * (1 + len(WORDS))]
        for name, count in self.counts.items():
            rows.append([KINDS[name].title, str(count.total()), *(str(count[word]) for word in WORDS)])
        everything: Counter[str] = sum(self.counts.values(), Counter())
        rows.append(["all", str(everything.total()), *(str(everything[word]) for word in WORDS)])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def conduct(
    kinds: Sequence[str],
    *,
    seed: int,
    minutes: float,
    jobs: int,
    say: Callable[[str], None],
    least: bool = True,
) -> Found:
    """Cause accidents until the time is over and each kind has its least number.

    Args:
        kinds: names in :data:`soaking.kinds.KINDS`.
        seed: of all draws; a case's depend on it, the kind and the case's number alone.
        minutes: that it takes.
        jobs: processes that cause accidents.
        say: is given each fault when it is seen, and now and then how far it is.
        least: whether each kind has its least number of cases however long it takes; otherwise it has one.

    Raises:
        BrokenSoakError: what ought to go well without any accident does not.
    """
    found = Found({name: Counter() for name in kinds}, [])
    context = multiprocessing.get_context("fork")
    queue: Any = context.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="kdbench-soak-") as root:
        deadline = time.monotonic() + 60 * minutes
        given = [(Path(root) / str(job), kinds, seed, deadline, (job, jobs), least, queue) for job in range(jobs)]
        gc.freeze()  # what is loaded is not copied into each child
        workers = [context.Process(target=_work, args=each) for each in given]
        for worker in workers:
            worker.start()
        try:
            _collect(found, queue, len(workers), seed, say)
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()
    return found


def replay(name: str, number: int, seed: int) -> list[Verdict]:
    """One case alone."""
    with tempfile.TemporaryDirectory(prefix="kdbench-soak-") as root:
        return _case(Place(Path(root)), name, number, seed)


def _collect(found: Found, queue: Any, working: int, seed: int, say: Callable[[str], None]) -> None:
    told = time.monotonic()
    while working:
        message = queue.get()
        if message is None:
            working -= 1
            continue
        if len(message) == 2:
            raise BrokenSoakError(f"{message[0]} failed by itself:\n{message[1]}")
        name, number, verdicts = message
        for verdict in verdicts:
            found.counts[name][verdict.word] += 1
            if verdict.word in FAULTS:
                text = f"{verdict.word}: {verdict.accident}\n  {verdict.seen}\n  again: --seed {seed} --replay {name}:{number}"
                found.faults.append(text)
                say(text)
        if time.monotonic() - told > _TOLD:
            told = time.monotonic()
            say(", ".join(f"{name} {count.total()}" for name, count in found.counts.items()))


def _work(
    root: Path, kinds: Sequence[str], seed: int, deadline: float, turn: tuple[int, int], least: bool, queue: Any
) -> None:
    """Cases of all kinds: each time of that which has had the least of its share, its numbers every so many apart."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    place, (first, step) = Place(root), turn
    spent: dict[str, float] = dict.fromkeys(kinds, 0.0)
    numbers = dict.fromkeys(kinds, first)
    name: str | None = None
    try:
        while (name := _next(place, spent, numbers, deadline, least)) is not None:
            began = time.monotonic()
            queue.put((name, numbers[name], _case(place, name, numbers[name], seed)))
            spent[name] += time.monotonic() - began
            numbers[name] += step
        queue.put(None)
    except Exception:  # noqa: BLE001 - told by whoever has started this process
        queue.put((f"{name}:{numbers.get(str(name))}", traceback.format_exc()))


def _next(
    place: Place, spent: Mapping[str, float], numbers: Mapping[str, int], deadline: float, least: bool
) -> str | None:
    names = list(spent)
    if time.monotonic() >= deadline:
        names = [name for name in names if numbers[name] < (KINDS[name].least(place) if least else 1)]
    return min(names, key=lambda name: spent[name] / KINDS[name].share, default=None)


def _case(place: Place, name: str, number: int, seed: int) -> list[Verdict]:
    return KINDS[name].case(place, number, random.Random(f"{seed}/{name}/{number}"))
