"""What the processes tell one another, in the store through which they met."""

from __future__ import annotations

import datetime
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from kdbench.errors import ConfigError, KdbenchError
from kdbench.processes.place import Place

if TYPE_CHECKING:
    from torch.distributed import Store

#: seconds that the processes have to find one another
JOINING = 300.0
#: seconds after them in which the place where they meet has to answer
ANSWER = 10.0
#: the longest that one waits for another that is alive: what the main one does alone, or a slower disk
PATIENCE = datetime.timedelta(hours=2)


class Beat(NamedTuple):
    """A process's sign of life.

    Attributes:
        number: of the sign; another one with every look.
        step: number of the step that it is at, counted over the run.
        still: seconds since that step began; 0 outside steps.
        limit: seconds of ``still`` that are nothing unusual with it.
        at: what it is at, empty while PyTorch has it, which may wait for others.
        left: it has nothing more to do with the others.
    """

    number: int = 0
    step: int = 0
    still: float = 0.0
    limit: float = 0.0
    at: str = ""
    left: bool = False


class End(NamedTuple):
    """Why all end.

    Attributes:
        rank: whose fault it is.
        failed: by an error of its own, which the others may meet, too; else it is gone.
        message: for the user.
        code: of the processes' exit.
        teller: who prints the message.
    """

    rank: int
    failed: bool
    message: str
    code: int
    teller: int


class Board:
    """Signs of life and the end, of all processes; every call is a round trip to the store.

    Args:
        store: a connection of its own: another one may be blocked by a caller that waits.
        rank: this process.
        world: how many there are.
    """

    def __init__(self, store: Store, rank: int, world: int) -> None:
        self.store, self.rank, self.world = store, rank, world

    def beat(self, beat: Beat) -> None:
        """Show a sign of life."""
        self.store.set(f"beat/{self.rank}", json.dumps(beat))

    def beats(self, ranks: list[int]) -> dict[int, Beat]:
        """The last signs of others."""
        found = self.store.multi_get([f"beat/{rank}" for rank in ranks])
        return {rank: Beat(*json.loads(value)) for rank, value in zip(ranks, found)}

    def introduce(self) -> list[Place]:
        """Show this process and wait for all others.

        Raises:
            KdbenchError: some do not come, or the process at which all meet ends or freezes meanwhile.
        """
        found: list[list[Place] | Exception] = []

        def meet_all() -> None:
            try:
                found.append(self._introduce())
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                found.append(error)

        # a store whose process is frozen does not answer, and its calls have no limit
        asking = threading.Thread(target=meet_all, name="kdbench-introduce", daemon=True)
        asking.start()
        asking.join(JOINING + ANSWER)
        if not found:
            raise KdbenchError(f"where the processes of this run meet, nobody answered for {ANSWER:g} seconds")
        (outcome,) = found
        if isinstance(outcome, RuntimeError):  # torch's, of a connection
            raise _lost(outcome) from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _introduce(self) -> list[Place]:
        self.beat(Beat())
        self.store.set(f"place/{self.rank}", json.dumps(tuple(vars(Place.own()).values())))
        keys = [f"place/{rank}" for rank in range(self.world)]
        deadline = time.monotonic() + JOINING
        while not self.store.check(keys):
            if time.monotonic() > deadline:
                missing = ", ".join(str(rank) for rank, key in enumerate(keys) if not self.store.check([key]))
                raise KdbenchError(f"process {missing} of {self.world} did not come within {JOINING:g} seconds")
            time.sleep(0.02)
        return [Place(*json.loads(value)) for value in self.store.multi_get(keys)]

    def announce(self, end: End) -> End:
        """Say why all end; what was said first holds, and comes back."""
        return End(*json.loads(self.store.compare_set("end", "", json.dumps(end))))

    def end(self) -> End | None:
        """Why all end; None while they do not."""
        return End(*json.loads(self.store.get("end"))) if self.store.check(["end"]) else None

    def tell(self) -> bool:
        """Whether nobody has told the user so far; from now on somebody has."""
        return self.store.add("told", 1) == 1

    def told(self) -> bool:
        """Whether the user has been told."""
        return bool(self.store.check(["told"]))


def compare(store: Store, rank: int, world: int, what: str, facts: dict[str, Any]) -> None:
    """Refuse to go on where the processes differ; all come here, and all are refused alike.

    Args:
        store: this may block, so not a :class:`Board`'s.
        rank: this process.
        world: how many there are.
        what: a name for these facts, used once.
        facts: by what they are, as JSON can hold them.

    Raises:
        ConfigError: says which differ, with two processes' values.
    """
    store.set(f"{what}/{rank}", json.dumps(facts, default=str, sort_keys=True))
    every = [json.loads(store.get(f"{what}/{other}")) for other in range(world)]
    for other, theirs in enumerate(every):
        keys = sorted(key for key in {*every[0], *theirs} if every[0].get(key) != theirs.get(key))
        if keys:
            shown = "; ".join(f"{key} is {_short(every[0], key)} and {_short(theirs, key)}" for key in keys[:5])
            more = f", and {len(keys) - 5} more" if len(keys) > 5 else ""
            raise ConfigError(f"processes 0 and {other} of this run disagree: {shown}{more}")


def _short(facts: dict[str, Any], key: str) -> str:
    text = json.dumps(facts[key], ensure_ascii=False) if key in facts else "absent"
    return text if len(text) <= 80 else f"{text[:80]}..."


def meet() -> Store:
    """The store of the processes that ``torchrun`` (or whoever set its variables) started.

    Raises:
        ConfigError: the variables do not say where to meet.
        KdbenchError: some processes do not come.
    """
    import torch.distributed as dist

    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set; start several processes with torchrun"
        )
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=datetime.timedelta(seconds=JOINING)))  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise KdbenchError(
            f"the processes of this run did not meet at {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} "
            f"({' '.join(str(error).split())[:200]})"
        ) from None
    store.set_timeout(PATIENCE)
    found: Store = store
    return found


def connect() -> Store:
    """Another connection to that store, whose calls give up after some seconds.

    Raises:
        KdbenchError: nobody answers there any more.
    """
    import torch.distributed as dist

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        return dist.TCPStore(
            host, port, is_master=False, wait_for_workers=False, timeout=datetime.timedelta(seconds=30)
        )
    except RuntimeError as error:
        raise _lost(error) from None


def _lost(error: RuntimeError) -> KdbenchError:
    reason = (str(error).splitlines() or ["no answer"])[0][:200]
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return KdbenchError(
        f"the process at which those of this run meet, at {where}, has ended ({reason}); the same command goes on"
    )
