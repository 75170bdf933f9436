"""Damaged files that kdbench reads back: of a grid that is done, and of a run that is under way.

Healed is what ends in the same figures. Refused is also what a table leaves out and says so; the grid's command then heals it.
"""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from inline_pool import InlinePool
from small_grids import FAKE, grid_file
from tiny_run import content

from soaking.child import Child, Ended, command, ended
from soaking.damage import damage
from soaking.place import BrokenSoakError, Place, difference, expect_done, train
from soaking.verdict import REFUSED, WRONG, Verdict, fault_of, judge

_SETTINGS = {**FAKE, "SOLVER": {**FAKE["SOLVER"], "EPOCHS": 2}, "CACHE": {"ENABLED": True}}
_METHODS = ["Vanilla", "KD", {"LABEL": "DKD-2", "TYPE": "DKD", "SET": {"DKD.BETA": 2.0}}]
_SKIPPED = (".lock", ".holder.json")
#: columns that count, and how a table says that there is nothing
_COUNTS, _NONE = ("n", "gain_n"), ("0", "0.0")
#: every so many grids pictures, too, which take seconds
_PICTURES = 8
#: of four cases, how many are of a run under way
_UNDER_WAY = 2


class Base(NamedTuple):
    """A grid that is done: its folder, its file below it, its table, what its runs hold."""

    folder: Path
    table: str
    runs: dict[str, list[bytes]]


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """Damage one file of a grid or of a run."""
    return _of_a_run(place, chance) if number % 4 < _UNDER_WAY else _of_a_grid(place, chance)


def _of_a_run(place: Place, chance: random.Random) -> list[Verdict]:
    method, extra = chance.choice((("KD", {"CACHE.ENABLED": "True"}), ("CRD", {}), ("Vanilla", {})))
    expected = place.calm(method, **extra).content
    begun = place.once(("begun", method), lambda folder: _begun(folder, method, extra))
    with place.case() as folder:
        shutil.copytree(begun, folder / "run")
        accident = f"{method} under way: {_damaged(folder / 'run', chance)}"
        done = ended(command(*train(folder / "run", method, **extra)))
        return [judge(done, accident, lambda: difference(folder, expected))]


def _begun(folder: Path, method: str, extra: dict[str, str]) -> Path:
    """A run that was killed in its third epoch."""

    def dying() -> None:
        import kdbench

        def progress(epoch: int, step: int, steps: int) -> None:
            if (epoch, step) == (3, 2):
                os.kill(os.getpid(), signal.SIGKILL)

        kdbench.train(kdbench.load_config(overrides=train(folder, method, **extra)[1:]), progress=progress)

    if Child(dying).wait().code != -signal.SIGKILL or not list(folder.rglob("checkpoint.previous.pt")):
        raise BrokenSoakError("a run that is to be killed in its third epoch was not")
    return folder


def _of_a_grid(place: Place, chance: random.Random) -> list[Verdict]:
    base = place.once("grid", _base)
    with place.case() as folder:
        root = folder / "g"
        shutil.copytree(base.folder, root)
        accident = f"grid: {_damaged(root / 'runs', chance)}"
        return list(_looked_at_and_healed(root, base, accident))


def _looked_at_and_healed(root: Path, base: Base, accident: str) -> Iterator[Verdict]:
    folder = root / "runs" / "g"
    shown = ended(command("table", str(folder), "--format", "csv"))
    fault = fault_of(shown, accident)
    if fault is None and shown.code == 0 and (wrong := other_figures(shown.out, base.table)):
        fault = Verdict(WRONG, accident, wrong)
    if shown.code == 0 and len(accident) % _PICTURES == 0:
        yield judge(
            ended(command("table", str(folder), "--plots", str(root / "p"))), f"pictures of {accident}", lambda: ""
        )
    healing = grid(root)
    if fault is None:
        fault = fault_of(healing, accident)
    if fault is not None:
        yield fault
        return
    if healing.code == 0:
        after = ended(command("table", str(folder), "--format", "csv"))
        yield judge(after, accident, lambda: other_figures(after.out, base.table, whole=True), refusable=False)
    else:
        yield Verdict(REFUSED, accident)
    for run in base.runs:
        file = folder / run
        if (file / "student.safetensors").read_bytes() != base.runs[run][1]:
            # a student from which no cell learns: who asks for its accuracy is told
            asked = ended(command("eval", "--run", str(file)))
            yield judge(asked, accident, lambda run=run: f"the damaged student of {run} is evaluated")  # type: ignore[misc]
        if (file / "metrics.jsonl").read_bytes() != base.runs[run][0]:
            yield Verdict(WRONG, accident, f"after the grid's command the metrics of {run} are not as undisturbed")


def other_figures(table: str, expected: str, *, whole: bool = False) -> str:
    """Which figures of a table, as CSV, are not the expected ones.

    Args:
        table, expected: the two.
        whole: whether those that are missing are wrong, too.
    """
    found, right = (
        {(row["pair"], row["method"]): row for row in csv.DictReader(io.StringIO(text))} for text in (table, expected)
    )
    if unknown := found.keys() - right.keys():
        return f"the table has cells {unknown}"
    for cell, figures in right.items():
        for name, figure in figures.items():
            shown = found.get(cell, {}).get(name) or ""
            if name in _COUNTS and not whole and shown in _NONE:
                shown = ""
            if (shown or whole) and not _same(shown, figure):
                return f"{', '.join(cell)}: {name} is {shown or 'missing'} instead of {figure}"
    return ""


def _same(one: str, two: str) -> bool:
    try:
        return float(one) == float(two)  # of whole numbers beside missing ones a frame makes others
    except ValueError:
        return one == two


def grid(root: Path) -> Ended:
    """The command that trains the grid, with its workers in its own process."""

    def work() -> int:
        from kdbench.bench.running.pools import cluster_pools

        cluster_pools.make_pool = lambda *_, **__: InlinePool()  # type: ignore[assignment]
        return command("grid", str(root / "grid.yaml"), "--prefix", str(root / "runs"), "--cohort", "1")()

    return ended(work)


def _base(folder: Path) -> Base:
    root = folder / "g"
    root.mkdir()
    grid_file(root, SET=_SETTINGS, METHODS=_METHODS)
    expect_done(grid(root))
    shown = ended(command("table", str(root / "runs" / "g"), "--format", "csv"))
    expect_done(shown)
    runs = {file.parent.name: content(file.parent) for file in (root / "runs" / "g").glob("*/result.json")}
    return Base(root, shown.out, runs)


def _damaged(folder: Path, chance: random.Random) -> str:
    """Damage one of the files below a folder; each kind of file has the same chance."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name not in _SKIPPED]
    kinds = sorted({_kind(file) for file in files})
    kind = chance.choice(kinds)
    alike = [file for file in files if _kind(file) == kind]
    file = chance.choice(alike)
    others = [other for other in alike if other != file] or [other for other in files if other != file]
    done, changed = damage(file.read_bytes(), chance, others)
    file.write_bytes(changed)
    return f"{file.relative_to(folder)}: {done}"


def _kind(file: Path) -> str:
    if file.suffix == ".bin":
        return "view"
    return file.parent.name if file.parent.name in (".state", "accuracy", "weights") else file.name
