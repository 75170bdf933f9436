"""Where a process stands among those of a run, and whether another one of the same machine still lives."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path


def rank_and_world() -> tuple[int, int]:
    """This process's number, and how many there are, as ``torchrun`` says it; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Place:
    """A process as others see it.

    Attributes:
        host: name of its machine.
        pid: its number there.
        began: when it began, in ticks of the machine, since numbers are used again; empty where that is not known.
        space: what its number belongs to: a start of a machine and a container of it; empty where that is not known.
    """

    host: str
    pid: int
    began: str
    space: str

    @classmethod
    def own(cls) -> Place:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _stat(pid)[1], _space())

    def has_ended(self) -> bool:
        """Whether the process is known to be dead: False where only its own machine could tell."""
        return self._is_here() and not self._lives()

    def kill(self) -> None:
        """End the process at once, where it is of this machine and lives."""
        if self._is_here() and self._lives():
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)

    def _is_here(self) -> bool:
        return bool(self.space and self.began) and self.space == _space()

    def _lives(self) -> bool:
        try:
            state, began = _stat(self.pid)
        except FileNotFoundError:
            return False
        return began in (self.began, "") and state not in ("Z", "X")  # Z: dead, and nobody has waited for it


def _stat(pid: int) -> tuple[str, str]:
    """State of a process of this machine, and when it began; empty where the system does not say."""
    try:
        # behind the name, which may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if pid == os.getpid():
            return "", ""  # no Linux
        raise FileNotFoundError from None
    except (OSError, IndexError):
        return "", ""


def _space() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
