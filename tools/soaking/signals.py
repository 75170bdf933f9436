"""SIGTERM, SIGUSR1 and SIGHUP at random moments, to runs and to grids: exit code 75, and then the same bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from small_grids import FAKE, grid_file

from soaking.child import LIMIT, Child, Ended, command, ended
from soaking.place import BrokenSoakError, Place, difference, train, trained_methods
from soaking.verdict import Verdict, fault_of, judge

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
#: every so many cases a grid
_GRIDS = 12
_LONG = {**FAKE, "SOLVER": {**FAKE["SOLVER"], "EPOCHS": 40}}


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """Stop a run or a grid once or twice, and let it end."""
    return _grid(place, chance) if number % _GRIDS == _GRIDS - 1 else _run(place, number, chance)


def _run(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    names = trained_methods()
    method = names[number % len(names)]
    calm = place.calm(method)
    sent = [(chance.choice(_SIGNALS), chance.uniform(0, 1.1 * calm.seconds)) for _ in range(chance.randint(1, 2))]
    accident = f"{method}: " + ", ".join(f"{name.name} after {moment:.3f} s" for name, moment in sent)
    with place.case() as folder:
        work = command(*train(folder, method))
        for name, moment in sent:
            child = Child(work)
            time.sleep(moment)
            child.kill(name)
            stopped = child.wait()
            # before the command listens, and after it has finished, the signal ends the process as it does any other
            unheard = (name,) if not list(folder.rglob("metrics.jsonl")) or list(folder.rglob("result.json")) else ()
            fault = fault_of(stopped, accident, codes=(0, 75), sent=unheard)
            if fault is not None:
                return [fault]
        return [judge(ended(work), accident, lambda: difference(folder, calm.content), refusable=False)]


def _grid(place: Place, chance: random.Random) -> list[Verdict]:
    file, expected, seconds = place.once("grid that is stopped", _calm_grid)
    name, moment = chance.choice(_SIGNALS), chance.uniform(0.3, 1.0) * seconds
    accident = f"grid: {name.name} after {moment:.2f} s"
    with place.case() as folder:
        stopped = _grid_command(file, folder, (name, moment))
        begun, done = (len(list(folder.rglob(file))) for file in ("checkpoint.pt", "result.json"))
        accident += f", {done} of {len(expected) // 2} runs done"
        unheard = (name,) if not begun or 2 * done == len(expected) else ()
        fault = fault_of(stopped, accident, codes=(0, 75), sent=unheard)
        if fault is not None:
            return [fault]
        return [judge(_grid_command(file, folder), accident, lambda: _other_bytes(folder, expected), refusable=False)]


def _other_bytes(folder: Path, expected: dict[str, bytes]) -> str:
    found = _content(folder)
    wrong = [name for name in {*found, *expected} if found.get(name) != expected.get(name)]
    return f"{', '.join(sorted(wrong))} are not as undisturbed" if wrong else ""


def _calm_grid(folder: Path) -> tuple[Path, dict[str, bytes], float]:
    file = grid_file(folder, SET=_LONG, SEEDS=[1])
    done = _grid_command(file, folder / "runs")
    if done.code != 0:
        raise BrokenSoakError(f"a grid that nothing disturbed ended with {done.code}: {done.err[-2000:]}")
    return file, _content(folder / "runs"), done.seconds


def _content(folder: Path) -> dict[str, bytes]:
    names = ("metrics.jsonl", "student.safetensors")
    return {str(file.relative_to(folder)): file.read_bytes() for name in names for file in folder.rglob(name)}


def _grid_command(file: Path, prefix: Path, sent: tuple[signal.Signals, float] | None = None) -> Ended:
    """The command as a user gives it: its workers are started anew, so it is no fork."""
    words = [sys.executable, "-m", "kdbench", "grid", str(file), "--prefix", str(prefix), "--jobs", "1"]
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if sent is not None:
        time.sleep(sent[1])
        process.send_signal(sent[0])
    try:
        out, err = process.communicate(timeout=LIMIT)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        code = None
    return Ended(code, out, err, time.monotonic() - began)
