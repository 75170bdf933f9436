"""Which process owns a lock, and whether it lives: its number, and the machine, boot and namespace in which that is valid."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path
from typing import Any


def myself() -> dict[str, Any]:
    """This process, as its locks name it."""
    return {"host": socket.gethostname(), **_machine(), "pid": os.getpid(), "start": start_time(os.getpid())}


def start_time(pid: int) -> str:
    """When a process started, in ticks since boot; empty where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    try:
        # a killed child that nobody has waited for yet still has a number
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return True


@functools.cache
def _machine() -> dict[str, str]:
    """What a process number is valid in; hosts of a cluster, or two containers, may share a name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return {"boot": "", "namespace": ""}
    return {"boot": boot, "namespace": namespace}
