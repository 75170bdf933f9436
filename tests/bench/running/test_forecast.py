"""What a grid is said to cost before it starts, and the line that says so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from inline_pool import InlinePool
from small_grids import grid_file

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.grids.tasks import make_tasks
from kdbench.bench.running.estimate import estimate
from kdbench.bench.running.forecast import Forecast, Outlook, forecast
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.main import main

#: of the grids here: images of an epoch
IMAGES = 32


def learnt(folder, seconds, data=0.0):
    """Give finished runs below a folder these seconds an epoch by method (and of them, these of data); returns their number."""
    changed = 0
    for file in Path(folder).rglob("timing.jsonl"):
        record = json.loads((file.parent / "result.json").read_text())
        method = "teacher" if record["student"] == "small_mixer" else record["method"]
        if method in seconds:
            line = {"epoch": 1, "seconds": seconds[method], "data_seconds": data}
            file.write_text(json.dumps({**line, "images_per_second": IMAGES / seconds[method]}) + "\n")
            changed += 1
    return changed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished grid: a teacher (100 s), Vanilla (10 s), KD (20 s) and CRD (40 s), data 4 s of each."""
    folder = tmp_path_factory.mktemp("finished")
    file = grid_file(folder, NAME="first", METHODS=["Vanilla", "KD", "CRD"])
    assert run_grid(file, prefix=str(folder / "runs"), pool=InlinePool()).ok
    assert learnt(folder, {"teacher": 100.0, "Vanilla": 10.0, "KD": 20.0, "CRD": 40.0}, data=4.0) == 4
    return folder / "runs"


def outlook(folder, prefix, device="cpu", **changes):
    tasks = make_tasks(load_grid(grid_file(folder, NAME="second", **changes)), str(prefix))
    return Outlook(tasks, str(prefix), 1, lambda: device)


def told(look, **settings):
    return forecast(dict(enumerate(look.tasks)), look.kinds, look.speeds, **settings)


def test_teachers_then_cohorts_of_what_learns_from_them(tmp_path, finished):
    look = outlook(tmp_path, finished, METHODS=["Vanilla", "KD", "CRD"], SEEDS=[1, 2])
    apart = told(look, size=1, workers=1)
    assert (apart.runs, apart.together, apart.unknown, apart.nearest) == (7, 1, 0, 0)
    assert apart.seconds == pytest.approx(100 + 2 * (10 + 20 + 40))
    together = told(look, size=0, workers=1)
    assert together.together == 3
    assert together.seconds == pytest.approx(100 + 2 * (10 + 20 + 40 - 2 * 4))  # the data once a cohort
    assert told(look, size=0, workers=2).seconds == pytest.approx(100 + 62)
    assert told(look, size=1, workers=2).seconds == pytest.approx(100 + 70)  # a seed a worker
    assert apart.size == pytest.approx(together.size)
    assert apart.size > 1000


def test_what_is_not_known_is_said(tmp_path, finished):
    look = outlook(tmp_path, finished, METHODS=["KD", "DKD"], SEEDS=[1])
    found = told(look, size=1, workers=1)
    assert (found.nearest, found.unknown) == (1, 0)
    assert found.seconds == pytest.approx(100 + 20 + 40)  # DKD as CRD
    other = {"SOLVER": {"EPOCHS": 1, "BATCH_SIZE": 8, "LR": 0.01}}
    tree = {"DATASET": {"TYPE": "fake", "OPTIONS": {"size": 8, "train": 32, "test": 16}, "NUM_WORKERS": 0}}
    look = outlook(tmp_path, finished, SET={**tree, **other, "AUGMENT": {"CROP": "none", "FLIP": 0}})
    found = told(look, size=1, workers=1)
    assert (found.runs, found.unknown, found.seconds) == (3, 2, pytest.approx(100))
    assert told(outlook(tmp_path, finished, device="H100"), size=1, workers=1).unknown == 3


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            Forecast(9, 2, 600.0, 5e6, unknown=0, nearest=0, together=1),
            "9 runs to do, 2 at a time: about 10 min, 5.0 MB, as finished runs took; evaluation not counted",
        ),
        (
            Forecast(9, 2, 60.0, 5e6, unknown=1, nearest=3, together=4),
            "9 runs to do, 2 cohorts or runs at a time: at least 60 s, 5.0 MB, as finished runs took; 3 taken as the slowest "
            "other method of their pair; up to 4 together, each with a pass of its teacher; 1 of unknown cost not counted "
            "(--dry-run measures); evaluation not counted",
        ),
        (
            Forecast(1, 1, 0.0, 0.0, unknown=1, nearest=0, together=1),
            "1 run to do, 1 at a time: time not known, no such run has finished on this device (--dry-run measures)",
        ),
        (
            Forecast(3, 0, 7200.0, 0.0, unknown=0, nearest=0, together=1),
            "3 runs to do: about 2.0 h of one worker, 0.0 MB, as finished runs took; evaluation not counted",
        ),
    ],
)
def test_the_line(found, line):
    assert found.line == line


def test_measures_of_memory_are_those_of_runs_by_themselves(tmp_path):
    file = grid_file(tmp_path, METHODS=["KD", "CRD"])
    assert run_grid(file, prefix=str(tmp_path / "runs"), pool=InlinePool()).ok
    for timing in (tmp_path / "runs").rglob("timing.jsonl"):
        alone = "KD-" in timing.parent.name
        more = {"peak_gpu_bytes": 8000} if alone else {"peak_gpu_bytes": 9000, "together": 2}
        timing.write_text(json.dumps({**json.loads(timing.read_text()), **more}) + "\n")
    look = Outlook(make_tasks(load_grid(file), str(tmp_path / "runs")), str(tmp_path / "runs"), 1, lambda: "cpu")
    ((kind, size),) = look.memory().items()
    assert "'KD'" in kind
    assert size == 10000


def test_a_grid_says_what_it_will_cost_and_what_is_left(tmp_path, capsys):
    words = ["grid", "--prefix", str(tmp_path / "runs"), "--jobs", "1", "--threads", "1", "--cohort", "off"]
    file = grid_file(tmp_path, NAME="one", SEEDS=[1, 2])
    assert main([*words, str(file)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("5 runs to do, 1 at a time: time not known, no such run has finished")
    left = [bool(re.search(r"\d s, about \d+ s left$", line)) for line in lines[:5]]
    # of cells nothing is known after the teacher, and after the last nothing is left
    assert left == [False, True, True, True, False], lines
    assert main([*words, str(file)]) == 0
    assert "to do" not in capsys.readouterr().out
    assert learnt(tmp_path, {"teacher": 60.0, "Vanilla": 60.0, "KD": 120.0}) == 5
    other = grid_file(tmp_path, NAME="two", SEEDS=[3])
    assert main([*words, str(other)]) == 0
    assert re.match(r"3 runs to do, 1 at a time: about 4 min, 1\.\d MB, as finished", capsys.readouterr().out)


def test_an_estimate_learns_from_other_grids_and_says_from_which(tmp_path, finished, monkeypatch):
    probed = []
    monkeypatch.setattr("kdbench.bench.running.estimate._from_probes", lambda label, tasks: probed.append(label))
    grid = load_grid(grid_file(tmp_path, NAME="second", METHODS=["KD", "DKD", "Vanilla"], SEEDS=[5, 6]))
    announced = []
    found = estimate(grid, str(finished), announce=lambda label, *_: announced.append(label))
    rows = {one.label: (one.runs, one.seconds, one.source) for one in found}
    assert rows == {
        "teacher A": (1, pytest.approx(100.0), f"from 1 finished below {finished}"),
        "KD A -> small_cnn": (2, pytest.approx(20.0), f"from 1 finished below {finished}"),
        "DKD A -> small_cnn": (2, pytest.approx(40.0), "as CRD on this pair, from 1 finished"),
        "Vanilla A -> small_cnn": (2, pytest.approx(10.0), f"from 1 finished below {finished}"),
    }
    assert all(one.size > 1000 for one in found)
    assert probed == announced == []
    estimate(grid, str(tmp_path / "elsewhere"), announce=lambda label, *_: announced.append(label))
    assert probed == announced == list(rows)


def test_runs_that_were_made_on_another_device_are_no_measure(tmp_path, monkeypatch):
    file = grid_file(tmp_path, METHODS=["KD"])
    assert run_grid(file, prefix=str(tmp_path / "runs"), pool=InlinePool()).ok
    for result in (tmp_path / "runs").rglob("result.json"):
        record = json.loads(result.read_text())
        record["environment"] |= {"device": "cuda", "gpu": "H100"}
        result.write_text(json.dumps(record))
    probed = []
    monkeypatch.setattr("kdbench.bench.running.estimate._from_probes", lambda label, tasks: probed.append(label))
    estimate(load_grid(file), str(tmp_path / "runs"))
    assert probed == ["teacher A", "KD A -> small_cnn"]
