"""Labels that mean something to a format: tables, statistics, pictures and status show them, with their own figures."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

from nasty_labels import NASTY
from synthetic_runs import write_run

from soaking.child import command, ended
from soaking.place import Place
from soaking.verdict import Verdict, judge

_SIGNS = "|`*_~$<>&[](){}\\\"'#%^=+-@!;:,./ \n\r\t\x00\x1b\x7f\u202e\ud800é漢😀ａ０"
#: every so many cases pictures, which take seconds
_PICTURES = 6


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """A grid of random labels, shown."""
    methods = _labels(chance, 4)
    pairs = _labels(chance, 2)
    accident = f"methods {methods!r:.200}, pairs {pairs!r:.100}"
    with place.case() as folder:
        figures = _write(folder / "g", methods, pairs, chance)
        grid = str(folder / "g")
        shown = ended(command("table", grid, "--format", "csv"))
        found = [judge(shown, f"table: {accident}", lambda: _wrong(shown.out, figures))]
        words = [["table", grid, "--out", str(folder / "o")], ["table", grid, "--stats"], ["grid", grid, "--status"]]
        words += [["table", grid, "--plots", str(folder / "p")]] if number % _PICTURES == _PICTURES - 1 else []
        chosen = [words[number % 3], *words[3:]]
        found += [
            judge(ended(command(*each)), f"{' '.join(each[2:3] or each)}: {accident}", lambda: "") for each in chosen
        ]
        return found


def _labels(chance: random.Random, count: int) -> list[str]:
    made: list[str] = []
    while len(made) < count:
        way = chance.random()
        if way < 0.5:
            label = chance.choice(NASTY)
        elif way < 0.8:
            label = "".join(chance.choice(_SIGNS) for _ in range(chance.randint(1, 30)))
        else:
            label = chance.choice(NASTY) + "".join(chance.choice(_SIGNS) for _ in range(3)) + chance.choice(NASTY)
        if label not in made:
            made.append(label)
    return made


def _write(folder: Path, methods: list[str], pairs: list[str], chance: random.Random) -> list[float]:
    """The grid's folder; returns the accuracies of its table, by rows."""
    cells, figures = [], []
    for row, pair in enumerate(pairs):
        for column, method in enumerate(methods):
            top1 = chance.randint(1000, 9000) / 100
            figures.append(top1)
            for seed in (1, 2):
                name = f"r{row}-{column}-{seed}"
                run = write_run(
                    folder,
                    method="KD",
                    seed=seed,
                    top1=top1,
                    name=name,
                    teacher=pair,
                    student=method,
                    seconds=(2.0, 1.0),
                )
                cells.append({"pair": pair, "method": method, "seed": seed, "run": run, "error": ""})
    record = {"name": pairs[0], "pairs": pairs, "methods": methods, "baseline": methods[0], "cells": cells}
    (folder / "grid.json").write_text(json.dumps({**record, "teachers": {pairs[0]: "k"}}))
    return figures


def _wrong(text: str, figures: list[float]) -> str:
    rows = list(csv.DictReader(io.StringIO(text)))
    found = [round(float(row["mean"]), 2) for row in rows]
    return "" if found == figures else f"the table has {found} instead of {figures}"
