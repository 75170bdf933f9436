"""SIGKILL at random moments of a run, once or several times, over all methods: the finished run has the same bytes."""

from __future__ import annotations

import random
import signal
import time

from soaking.child import Child, command, ended
from soaking.place import Place, difference, train, trained_methods
from soaking.verdict import Verdict, fault_of, judge

#: of SOLVER.CHECKPOINT_EVERY
_EVERY = ("", "", "1 steps", "4 steps")


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """Kill a run up to four times, and let it end."""
    names = trained_methods()
    method = names[number % len(names)]
    calm = place.calm(method)
    moments = [chance.uniform(0, 1.1 * calm.seconds) for _ in range(chance.randint(1, 4))]
    every = chance.choice(_EVERY)
    accident = f"{method}, {every or 'epochs'}: killed after {', '.join(f'{m:.3f}' for m in moments)} s"
    with place.case() as folder:
        work = command(*train(folder, method, **({"SOLVER.CHECKPOINT_EVERY": every} if every else {})))
        for moment in moments:
            child = Child(work)
            time.sleep(moment)
            child.kill(signal.SIGKILL)
            fault = fault_of(child.wait(), accident, sent=(signal.SIGKILL,))
            if fault is not None:
                return [fault]
        return [judge(ended(work), accident, lambda: difference(folder, calm.content), refusable=False)]
