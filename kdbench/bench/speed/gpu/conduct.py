"""Runs the parts, each in a child process of its own with its own limit, and writes down what they found after each one."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kdbench
from kdbench.bench.speed.gpu.page import render
from kdbench.bench.speed.gpu.parts import MINUTES, PARTS, SHAPES, Part
from kdbench.bench.speed.gpu.settings import Settings
from kdbench.bench.speed.gpu.targets import judge
from kdbench.catalogue import methods
from kdbench.files import write_atomically

#: processes that share out the methods, at most
_SHARES = 4
#: seconds that a part needs at least: it imports torch
_LEAST = 12.0
_POLL = 0.1
_MODULE = "kdbench.bench.speed.gpu.child"


class Job:
    """A part, or its share of methods, in a process.

    Args:
        part: what is done.
        settings: with the share's methods.
        shape: of a part that has several.
        seconds: that it may take.
        folder: for what it writes.
        number: of the part's processes.
    """

    def __init__(self, part: Part, settings: Settings, shape: str, seconds: float, folder: Path, number: int) -> None:
        self.part, self.settings, self.shape, self.seconds = part, settings, shape, seconds
        self.file, self._log = folder / f"{part.name}-{number}.json", folder / f"{part.name}-{number}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._end = 0.0

    def start(self, threads: int = 0) -> None:
        """Begin, with so many CPU threads; 0 = PyTorch's choice."""
        self._end = time.monotonic() + self.seconds
        words = [self.part.name, str(self.file), self.settings.to_json(), str(self.seconds), self.shape]
        with self._log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, *words],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=_environment(threads),
                start_new_session=True,  # so that its own children end with it
            )

    def over(self) -> bool:
        """Whether it has ended; one that has no time left is ended."""
        assert self._process is not None
        if self._process.poll() is None and time.monotonic() < self._end:
            return False
        self.end()
        return True

    def end(self) -> None:
        """End its processes."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def result(self) -> dict[str, Any]:
        """What it found, with ``error`` where it did not come to its end."""
        if self._process is None:
            return {"error": "not run: the time was used up"}
        found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}
        if self._process.returncode == 0:
            return found
        if time.monotonic() >= self._end:
            return {**found, "error": f"cut off at its limit of {self.seconds:.0f} s"}
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line for line in reversed(lines) if line.strip()), "no message")
        return {**found, "error": f"its process ended with code {self._process.returncode}: {last}"}


def conduct(
    settings: Settings,
    out: Path,
    *,
    minutes: float = MINUTES,
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure, and write ``gpu.json`` and ``gpu.md``.

    Args:
        settings: device, pairs, methods, peers.
        out: folder of both files; made where it is not there.
        minutes: that all may take; the limits of the parts follow.
        only: names of parts; none = all.
        say: told of each part that is done.

    Returns:
        What ``gpu.json`` holds.
    """
    out.mkdir(parents=True, exist_ok=True)
    begun, deadline = time.monotonic(), time.monotonic() + 60 * minutes
    results: dict[str, Any] = {
        "kdbench": kdbench.__version__,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": settings.device,
        "minutes": minutes,
        "parts": {part.name: {"error": "not run yet"} for part in PARTS},
    }
    chosen = [part for part in PARTS if not only or part.name in only]
    for part in PARTS:
        if part not in chosen:
            results["parts"][part.name] = {"error": "not asked for (--only)"}
    _write(results, out)
    with tempfile.TemporaryDirectory(prefix="kdbench-gpu-", ignore_cleanup_errors=True) as folder:
        for wave in sorted({part.wave for part in chosen}):
            group = [part for part in chosen if part.wave == wave]
            for part, found in _wave(group, settings, Path(folder), minutes, deadline):
                results["parts"][part.name] = found
                results["seconds"] = round(time.monotonic() - begun, 1)
                _write(results, out)
                say(f"{part.name}: {found.get('error') or 'done'}")
    return results


def _wave(
    parts: list[Part], settings: Settings, folder: Path, minutes: float, deadline: float
) -> Iterator[tuple[Part, dict[str, Any]]]:
    """Run parts beside each other, as many processes as there are cores for; each part with what it found, when it has ended."""
    jobs: list[Job] = []
    for part in parts:
        limit = part.limit * minutes / MINUTES
        for number, (share, shape) in enumerate(_shares(part, settings)):
            jobs.append(Job(part, share, shape, limit, folder, number))
    waiting, left = list(jobs), list(parts)
    running: list[Job] = []
    beside = settings.is_gpu and not any(part.alone for part in parts)
    cores = os.cpu_count() or 1
    most = min(len(jobs), max(1, cores // 2)) if beside else 1
    threads = max(1, cores // most) if beside else 0
    try:
        while left:
            running = [job for job in running if not job.over()]
            while waiting and len(running) < most:
                job = waiting.pop(0)
                job.seconds = min(job.seconds, deadline - time.monotonic())
                if job.seconds >= _LEAST:
                    job.start(threads)
                    running.append(job)
            busy = {job.part for job in [*waiting, *running]}
            for part in [part for part in left if part not in busy]:
                left.remove(part)
                yield part, _merged([job.result() for job in jobs if job.part is part])
            time.sleep(_POLL)
    finally:
        for job in running:
            job.end()


def _shares(part: Part, settings: Settings) -> list[tuple[Settings, str]]:
    """The processes of a part: settings and shape of each."""
    if part.split == "shapes":
        return [(settings, shape) for shape in SHAPES]
    if part.split == "methods":
        names = settings.methods or tuple(methods().names())
        count = min(_SHARES, len(names)) if settings.is_gpu else 1
        return [(settings.only(tuple(names[first::count])), "") for first in range(count)]
    return [(settings, "")]


def _merged(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of a part's processes as one."""
    if len(found) == 1:
        return found[0]
    rows = sorted((row for one in found for row in one.get("rows", [])), key=lambda row: str(row.get("method", "")))
    errors = list(dict.fromkeys(one["error"] for one in found if "error" in one))
    whole = {key: value for one in found for key, value in one.items() if key not in ("rows", "error")}
    return {**whole, "rows": rows, **({"error": "; ".join(errors)} if errors else {})}


def _environment(threads: int) -> dict[str, str]:
    """A child imports this copy of kdbench, and shares the cores with those beside it."""
    root = str(Path(kdbench.__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH", "")
    shared = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return {**os.environ, **shared, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


def _write(results: dict[str, Any], out: Path) -> None:
    results["targets"] = judge(results)
    write_atomically(out / "gpu.json", json.dumps(results, indent=2) + "\n")
    write_atomically(out / "gpu.md", render(results))
