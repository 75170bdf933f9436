"""Several processes at one run at once, one of them killed now and then: one trains, the others say who has it."""

from __future__ import annotations

import random
import signal
import time

from soaking.child import Child, command, ended
from soaking.place import Place, difference, train
from soaking.verdict import TRACEBACK, Verdict, fault_of, judge

_METHODS = ("KD", "Vanilla", "CRD", "DKD")


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """Two or three commands at nearly the same time."""
    method = _METHODS[number % len(_METHODS)]
    calm = place.calm(method)
    waits = [chance.choice((0.0, chance.uniform(0, calm.seconds))) for _ in range(chance.randint(2, 3))]
    killed = chance.random() < 0.3
    accident = (
        f"{method}: begun after {', '.join(f'{wait:.3f}' for wait in waits)} s{', the first killed' if killed else ''}"
    )
    with place.case() as folder:
        work = command(*train(folder, method))
        children = []
        for wait in waits:
            time.sleep(wait)
            children.append(Child(work))
        if killed:
            time.sleep(chance.uniform(0, calm.seconds))
            children[0].kill(signal.SIGKILL)
        for child in children:
            sent = (signal.SIGKILL,) if killed and child is children[0] else ()
            done = child.wait()
            fault = fault_of(done, accident, sent=sent)
            if fault is None and done.code == 2 and " is being trained" not in done.err:
                fault = Verdict(TRACEBACK, accident, f"refused for another reason: {done.err[-500:]}")
            if fault is not None:
                return [fault]
        return [judge(ended(work), accident, lambda: difference(folder, calm.content), refusable=False)]
