"""One run over several processes, through torchrun, from a worker of a grid."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml
from yacs.config import CfgNode

from kdbench import stopping
from kdbench.bench.grids.lock import STATE_DIR, RunLock
from kdbench.config.load import to_dict
from kdbench.engine.result import RunResult
from kdbench.engine.session.locate import read_finished
from kdbench.errors import KdbenchError

_POLL = 0.5  # seconds between looks at the processes and at the lock
_GRACE = 40.0  # seconds that torchrun has to end its processes; it gives them 30 itself
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: a forked child must import nothing


class LaunchError(KdbenchError):
    """The processes of a run ended with an error."""


def train_in_processes(
    cfg: CfgNode, processes: int, folder: str | Path, key: str, lock: RunLock, imports: tuple[str, ...] = ()
) -> RunResult:
    """Train as :func:`kdbench.train` does, in ``processes`` processes of this machine (a GPU each, where there are some).

    The resolved configuration is written to ``<folder>/.state/<key>.yaml``, what the processes say to ``<key>.out``.

    Raises:
        LaunchError: they failed; the message is their own where they gave one.
        LockLostError: the run was taken over; they were ended.
        RunStoppedError: a signal asked this process to stop; theirs were asked, too.
    """
    state = Path(folder) / STATE_DIR
    config, output = state / f"{key}.yaml", state / f"{key}.out"
    config.write_text(yaml.safe_dump(to_dict(cfg), sort_keys=False), encoding="utf-8")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words += ["-m", "kdbench", "train", "--cfg", str(config), *(w for name in imports for w in ("--import", name))]
    with output.open("w", encoding="utf-8") as stream:
        started = subprocess.Popen(
            words, stdout=stream, stderr=subprocess.STDOUT, preexec_fn=die_with_parent, start_new_session=True
        )
        try:
            code = _wait(started, lock)
        finally:
            _end(started)
    if code:
        stopping.check()
        text = output.read_text(encoding="utf-8", errors="replace")
        own = [line for line in text.splitlines() if line.startswith("kdbench: ")]
        raise LaunchError(
            own[0].removeprefix("kdbench: ") if own else f"exit code {code}, see {output}:\n{text[-4000:]}"
        )
    result = read_finished(cfg, processes)
    if result is None:
        raise LaunchError(f"its processes ended without a result, see {output}")
    return result


def die_with_parent() -> None:
    """In a child before it starts: be terminated when the parent dies, however it dies (Linux; elsewhere nothing)."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait(process: subprocess.Popen[bytes], lock: RunLock) -> int:
    while True:
        try:
            return process.wait(timeout=_POLL)
        except subprocess.TimeoutExpired:
            lock.check()
            if stopping.asked():
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()  # torchrun ends its processes in turn
    try:
        process.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
