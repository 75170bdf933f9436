"""One way of training in a process of its own, which takes steps when it is told to: ``python -m ...candidate <specification>``.

It says ``{"ready": true}`` on its standard output when it is warm. For each line that it is then sent it takes the steps of one
reading and answers ``{"seconds": ..., "images": ...}``; at the end of its input it ends. What goes wrong is ``{"error": ...}``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kdbench.bench.speed.gpu.settings import in_a_line
from kdbench.config.load import load_config
from kdbench.engine.session.cohort import train_cohort


class Talk:
    """The pipe to the process that reads by turns."""

    def __init__(self) -> None:
        # What libraries print must not come between the answers.
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(self, answer: dict[str, Any]) -> None:
        """An answer."""
        self._out.write(json.dumps(answer) + "\n")
        self._out.flush()

    def wait(self) -> None:
        """Wait for one's turn.

        Raises:
            SystemExit: there will be none.
        """
        if not sys.stdin.readline():
            raise SystemExit(0)


class Window:
    """Progress of runs that measures some steps whenever its turn has come; one reading follows the other.

    Args:
        talk: whom to answer.
        device: that computes.
        batch: images of a step.
        before, steps: steps of the epoch before the first reading, and of a reading.
        epoch: in which the readings are.
    """

    def __init__(self, talk: Talk, device: torch.device, batch: int, before: int, steps: int, epoch: int) -> None:
        self.talk, self.device, self.batch, self.epoch = talk, device, batch, epoch
        self.steps, self._next = steps, before
        self._answer: dict[str, Any] = {"ready": True}
        self._images, self._began = 0, 0.0

    def __call__(self, member: int, epoch: int, step: int, steps: int) -> None:
        """After a step of a member; the first one to get there ends a reading for all, and begins the next."""
        self._images += self.batch
        if epoch != self.epoch or step != self._next:
            return
        self._next += self.steps
        synchronize(self.device)
        if self._began:
            self._answer = {"seconds": time.perf_counter() - self._began, "images": self._images}
        self.talk.say(self._answer)
        self.talk.wait()
        self._images, self._began = 0, time.perf_counter()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def serve_runs(talk: Talk, spec: dict[str, Any], device: torch.device) -> None:
    """Runs of kdbench, several of them as a cohort."""
    window = Window(talk, device, spec["batch"], spec["before"], spec["steps"], spec["epoch"])
    outcomes = train_cohort([load_config(overrides=settings) for settings in spec["runs"]], progress=window)
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    talk.say({"error": in_a_line(errors[0]) if errors else "the run ended before its last reading"})


def serve_steps(talk: Talk, spec: dict[str, Any], device: torch.device, steps: Callable[[int], int]) -> None:
    """A function that takes steps."""
    steps(spec["before"])
    synchronize(device)
    answer: dict[str, Any] = {"ready": True}
    while True:
        talk.say(answer)
        talk.wait()
        began = time.perf_counter()
        images = steps(spec["steps"])
        synchronize(device)
        answer = {"seconds": time.perf_counter() - began, "images": images}


def peer_steps(file: str, device: torch.device) -> Callable[[int], int]:
    """What an adapter's ``steps(device)`` gives: ``fn(n)``, which takes n steps and returns the images of them.

    Raises:
        AttributeError: the file has no ``steps``.
    """
    path = Path(file)
    sys.path.insert(0, str(path.parent))
    made = importlib.util.spec_from_file_location(path.stem, path)
    assert made is not None
    assert made.loader is not None
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    found: Callable[[int], int] = module.steps(device)
    return found


def main() -> None:
    """Serve what the first argument specifies."""
    spec, talk = json.loads(sys.argv[1]), Talk()
    device = torch.device(spec["device"])
    try:
        if spec["kind"] == "runs":
            serve_runs(talk, spec, device)
        elif spec["kind"] == "plain":
            from kdbench.bench.speed.gpu.rates.plain import plain_steps

            serve_steps(talk, spec, device, plain_steps(spec, device))
        else:
            serve_steps(talk, spec, device, peer_steps(spec["file"], device))
    except Exception as error:  # noqa: BLE001 - whatever it is, the others are read
        talk.say({"error": in_a_line(error)})


if __name__ == "__main__":
    main()
