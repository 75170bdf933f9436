"""Disks that are full at a random size, outputs that cannot be written, readers that have gone; then the same bytes."""

from __future__ import annotations

import os
import random
import resource

from soaking.child import Child, command, ended
from soaking.place import Place, difference, train
from soaking.verdict import Verdict, fault_of, judge

_METHODS = ("KD", "Vanilla", "CRD", "HCD", "TEKAP")


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """A limit on the size of files in three of four cases, an output that cannot be written in the fourth."""
    method = chance.choice(_METHODS)
    extra = {"CACHE.ENABLED": "True"} if method != "Vanilla" and chance.random() < 0.5 else {}
    calm = place.calm(method, **extra)
    with place.case() as folder:
        work = command(*train(folder, method, **extra))
        if number % 4 < 3:
            largest = max(file.stat().st_size for file in calm.folder.iterdir())
            limit = int(1.2 * largest ** chance.uniform(0, 1))
            accident = f"{method} {extra}: files of at most {limit} bytes"

            def limited() -> int:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                return work()

            disturbed = Child(limited, piped=True).wait()
        else:
            victim, sink = chance.choice(("out", "err")), chance.choice(("/dev/full", "a reader that has gone"))
            accident = f"{method} {extra}: std{victim} is {sink}"
            number = os.open(sink, os.O_WRONLY) if sink == "/dev/full" else _without_reader()
            disturbed = Child(work, **{victim: number}).wait()  # type: ignore[arg-type]
            os.close(number)
        fault = fault_of(disturbed, accident)
        if fault is not None:
            return [fault]
        return [judge(ended(work), accident, lambda: difference(folder, calm.content), refusable=False)]


def _without_reader() -> int:
    read_end, write_end = os.pipe()
    os.close(read_end)
    return write_end
