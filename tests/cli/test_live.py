"""The board of a grid that runs: within its terminal, whatever the grid; and what a terminal is shown."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
from dataclasses import replace

import pytest
from nasty_labels import NASTY
from rich.console import Console, Group
from small_grids import FAKE, grid_file

from kdbench.bench.grids.status import STATES, Status
from kdbench.cli.live import drawn
from kdbench.cli.main import main

METHODS = tuple(f"METHOD-{n}" for n in range(29))
PAIRS = ("a long teacher's name -> a long student's name", "b -> c", "d -> e", "f -> g", "h -> i", *NASTY)


def status(pairs=PAIRS, methods=METHODS, running=9) -> Status:
    counts = {pair: {**dict.fromkeys(STATES, 0), "done": 20, "failed": 3, "waiting": 7} for pair in pairs}
    where = "some-host, process 123, epoch 3 of 12, step 7 of 20"
    return Status(
        "a grid with a very long name, longer than it should be",
        counts,
        {"T": "running"},
        {f"{pair} / KD / seed {n}": f"DataError: reason {pair}" for n in range(3) for pair in pairs},
        {f"{pairs[0]} / {methods[n % len(methods)]} / seed {n}": where for n in range(running)},
        {(pair, method): [70.0 + n, 71.0 + n] for pair in pairs for n, method in enumerate(methods)},
        methods,
    )


def shown(found: Status, width: int, height: int, left: float | None = 75.0) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), record=True)
    console.print(Group(*drawn(found, left, width, height)))
    return console.export_text().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 12), (200, 60), (40, 10), (120, 500)])
def test_a_board_fits_its_terminal(width, height):
    lines = shown(status(), width, height)
    assert max(len(line.rstrip()) for line in lines) <= width
    assert len(lines) <= height
    assert "more are running" in "\n".join(lines)


def test_a_board_says_what_is_done_and_the_means_so_far():
    lines = shown(status(("a -> b", "c -> d"), ("KD", "DKD"), running=1), 80, 24)
    assert lines[0].endswith(" 46/60 cells, 6 failed, about 75 s left")
    assert lines[1].startswith("a -> b / KD / seed 0 ")
    assert lines[1].endswith(" epoch 3 of 12")
    assert [line.split() for line in lines[-2:]] == [
        ["KD", "70.50", "(2)", "70.50", "(2)"],
        ["DKD", "71.50", "(2)", "71.50", "(2)"],
    ]
    assert "failed: 3 runs: DataError: reason a -> b" in "\n".join(lines)
    assert "left" not in shown(status(), 80, 24, left=None)[0]


def test_a_board_counts_trials():
    found = replace(status(("a -> b",), ("KD",)), trials={"done": 3, "running": 1, "failed": 1, "waiting": 3})
    assert " 4/8 trials, 23/30 cells, 3 failed" in shown(found, 80, 24)[0]


def test_a_board_before_the_first_run():
    empty = Status("g", {"p": dict.fromkeys(STATES, 0) | {"waiting": 4}}, {}, {}, {})
    assert shown(empty, 80, 24, left=None)[0].endswith(" 0/4 cells")


def test_a_terminal_sees_lines_and_board_and_a_pipe_lines_alone(tmp_path):
    # long enough for the board to be drawn anew while it runs
    file = grid_file(
        tmp_path, METHODS=["Vanilla", "KD"], SEEDS=[1], SET={**FAKE, "SOLVER": {**FAKE["SOLVER"], "EPOCHS": 40}}
    )
    words = [sys.executable, "-m", "kdbench", "grid", str(file), "--jobs", "1"]
    screen = on_a_terminal([*words, "--prefix", str(tmp_path / "a")])
    assert "cells" in screen
    assert "top-1 so far" in screen or "epoch" in screen
    plain = subprocess.run(
        [*words, "SOLVER.EPOCHS=2", "--prefix", str(tmp_path / "b")], capture_output=True, text=True, check=True
    ).stdout
    told = [line.rpartition(" top-1")[0] for line in plain.splitlines() if line.startswith("[")]
    assert len(told) >= 2
    assert all(line in screen for line in told)
    assert "\x1b" not in plain
    assert "so far" not in plain


def on_a_terminal(words: list[str]) -> str:
    """What a command prints on a terminal of 80 columns."""
    main_end, end = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(words, stdout=end, stderr=end, stdin=end, env=env) as child:
        os.close(end)
        text = b""
        while True:
            ready, _, _ = select.select([main_end], [], [], 120)
            assert ready, "the command hangs"
            try:
                part = os.read(main_end, 65536)
            except OSError:  # the other end was closed
                break
            if not part:
                break
            text += part
    os.close(main_end)
    assert child.returncode == 0, text.decode(errors="replace")
    return text.decode(errors="replace")


def test_listings_as_json(tmp_path, capsys):
    file = grid_file(tmp_path, METHODS=["Vanilla"], SEEDS=[1])
    prefix = str(tmp_path / "runs")
    assert main(["grid", str(file), "--prefix", prefix, "--jobs", "1"]) == 0
    capsys.readouterr()
    assert main(["grid", str(file), "--prefix", prefix, "--status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["done"] == found["pairs"][next(iter(found["pairs"]))]["done"] == 1
    assert [(row["method"], len(row["top1"])) for row in found["top1"]] == [("Vanilla", 1)]
    assert main(["clean", prefix, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": False, "litter": [], "left_alone": []}
    assert main(["cache", "ls", "--json", "--dir", str(tmp_path / "none")]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["grid", str(file), "--json"]) == 2
    assert "--json needs --status" in capsys.readouterr().err
