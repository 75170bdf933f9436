"""Several ways of training, each in a process of its own, read by turns: the machine's drift hits all alike."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_MODULE = "kdbench.bench.speed.gpu.rates.candidate"
#: share of the time in which a reading has to be done, so that one that hangs leaves the others their turns
_READING = 0.25


class Candidate:
    """A process of :mod:`kdbench.bench.speed.gpu.rates.candidate`.

    Args:
        name: of the candidate.
        spec: what it does.
        folder: for what it prints.
    """

    def __init__(self, name: str, spec: dict[str, Any], folder: Path) -> None:
        self.name = name
        self._log = folder / f"{''.join(c if c.isalnum() else '-' for c in name)}.log"
        with self._log.open("w", encoding="utf-8") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                encoding="utf-8",
            )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def answer(self, until: float) -> dict[str, Any]:
        """Its next answer; ``{"error": ...}`` where there is none until then (of ``time.monotonic``)."""
        try:
            line = self._answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return {"error": "it took longer than the time that it had"}
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        lines = [text for text in self._log.read_text(encoding="utf-8", errors="replace").splitlines() if text.strip()]
        return {"error": f"its process ended with code {self._process.wait()}: {lines[-1] if lines else 'no message'}"}

    def go(self) -> None:
        """Let it take the steps of one reading."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # its answer will say so
            return

    def end(self) -> None:
        """End its process."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()


def by_turns(
    specs: dict[str, dict[str, Any]],
    rounds: int,
    seconds: float,
    folder: Path,
    *,
    starting: float = 0.7,
    together: bool = True,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Read candidates by turns, the order turned by one in every round.

    Args:
        specs: of the candidates.
        rounds: readings of each.
        seconds: for all of it; rounds that do not fit are left out.
        folder: for what the processes print.
        starting: share of the time in which all have to be ready.
        together: they start together; else one behind the other, which is easier on few cores.

    Returns:
        Images per second of each candidate in each round, and why those are missing that are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    ready_by = begun + starting * seconds
    candidates: list[Candidate] = []
    missing: dict[str, str] = {}
    rates: dict[str, list[float]] = {}

    def make_ready(candidate: Candidate) -> None:
        answer = candidate.answer(ready_by)
        if "error" in answer:
            missing[candidate.name] = f"not ready: {answer['error']}"
            candidate.end()

    try:
        for name, spec in specs.items():
            candidates.append(Candidate(name, spec, folder))
            if not together:
                make_ready(candidates[-1])
        for candidate in candidates if together else []:
            make_ready(candidate)
        there = [candidate for candidate in candidates if candidate.name not in missing]
        for turn in range(rounds):
            first = turn % max(1, len(there))
            for candidate in there[first:] + there[:first]:
                if candidate.name in missing:
                    continue
                if time.monotonic() >= begun + seconds:
                    late = {candidate.name for candidate in there} - rates.keys() - missing.keys()
                    return rates, missing | dict.fromkeys(late, "no time was left for a reading")
                candidate.go()
                answer = candidate.answer(min(begun + seconds, time.monotonic() + _READING * seconds))
                if "error" in answer:
                    missing[candidate.name] = f"failed in reading {turn + 1}: {answer['error']}"
                    candidate.end()
                    continue
                expected = specs[candidate.name]["batch"] * specs[candidate.name]["steps"]
                members = round(answer["images"] / expected) if expected else 1
                if members < specs[candidate.name]["members"]:
                    missing[candidate.name] = f"only {members} of its students were trained together"
                    candidate.end()
                else:
                    rates.setdefault(candidate.name, []).append(answer["images"] / answer["seconds"])
    finally:
        for candidate in candidates:
            candidate.end()
    return rates, missing
