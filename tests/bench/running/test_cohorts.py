"""Runs that are trained together: which ones, to the same bytes, and what becomes of them when one of them breaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from inline_pool import InlinePool
from small_grids import FAKE, grid_file, two_teachers

from kdbench.bench.grids.lock import STATE_DIR, held, read_lock
from kdbench.bench.grids.state import read_states, write_state
from kdbench.bench.running.cohorts import AUTO, cohort_size, put_together
from kdbench.bench.running.pools.pool import Outcome
from kdbench.bench.running.run_grid import run_grid
from kdbench.bench.running.run_task import run_task
from kdbench.cli.main import main
from kdbench.config.load import load_config
from kdbench.errors import ConfigError


def cfg(method, teacher="small_mixer", seed=1, **more):
    keys = {"EXPERIMENT.SEED": seed, "DISTILLER.TYPE": method, "DISTILLER.STUDENT": "small_cnn", **more}
    keys |= {"DATASET.TYPE": "digits", "DISTILLER.TEACHER": teacher} if teacher else {"DATASET.TYPE": "digits"}
    return load_config(overrides=keys)


def numbered(*cfgs):
    return dict(enumerate(cfgs))


def test_words_for_a_size():
    assert [cohort_size(word) for word in ("auto", "OFF", "1", "12")] == [AUTO, 1, 1, 12]
    for word in ("nonsense", "0", "-3", "2.5", ""):
        with pytest.raises(ConfigError, match="--cohort expects auto, off or a number of runs"):
            cohort_size(word)


def test_runs_of_one_seed_and_teacher_belong_together():
    ready = numbered(
        cfg("KD"),
        cfg("KD", seed=2),
        cfg("DKD"),
        cfg("DKD", **{"TEACHER.WEIGHTS": "pretrained"}),
        cfg("DIST", **{"SOLVER.LR": 0.3, "SOLVER.WARMUP_EPOCHS": 1}),
        cfg("DIST", **{"SOLVER.BATCH_SIZE": 32}),
    )
    assert put_together(ready, AUTO, 1) == [[0, 2, 4], [1], [3], [5]]
    assert put_together(ready, 2, 1) == [[0, 2], [4], [1], [3], [5]]
    assert put_together(ready, 1, 1) == [[n] for n in range(6)]
    assert put_together({}, AUTO, 4) == []


def test_a_run_without_a_teacher_joins_the_first_group_with_its_batches():
    other = {"TEACHER.WEIGHTS": "pretrained"}
    ready = numbered(cfg("KD", **other), cfg("KD"), cfg("Vanilla", ""), cfg("Vanilla", "", seed=2), cfg("DKD", **other))
    assert put_together(ready, AUTO, 1) == [[0, 2, 4], [1], [3]]
    assert put_together(numbered(cfg("Vanilla", ""), cfg("Vanilla", "", seed=2)), AUTO, 1) == [[0], [1]]


def test_groups_are_divided_where_workers_would_be_idle():
    ready = numbered(*(cfg(method) for method in ("KD", "DKD", "DIST", "CRD", "FitNet")))
    assert put_together(ready, AUTO, 2) == [[0, 1, 2], [3, 4]]
    assert put_together(ready, 4, 2) == [[0, 1, 2, 3], [4]]  # a number is the user's, whatever is idle
    ready |= {5: cfg("KD", seed=2), 6: cfg("KD", seed=3)}
    assert put_together(ready, AUTO, 3) == [[0, 1, 2, 3, 4], [5], [6]]
    assert put_together(ready, AUTO, 4) == [[0, 1, 2], [3, 4], [5], [6]]
    assert put_together(numbered(cfg("KD")), AUTO, 8) == [[0]]


METHODS = ["Vanilla", "KD", "DKD", "CRD"]
SET = {**FAKE, "SOLVER": {**FAKE["SOLVER"], "EPOCHS": 2}, "CRD.NCE.K": 4}


def bytes_of(folder):
    """Metrics and weights of every run by its name."""
    return {
        file.parent.name: (file.read_bytes(), (file.parent / "student.safetensors").read_bytes())
        for file in Path(folder).rglob("metrics.jsonl")
    }


def train(folder, file, *, pool=None, **settings):
    """Run a grid in this process; its report and its pool."""
    pool = pool or InlinePool()
    return run_grid(file, prefix=str(folder), pool=pool, **settings), pool


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """Bytes of the grid of all methods, each run by itself."""
    folder = tmp_path_factory.mktemp("apart")
    report, pool = train(folder / "runs", grid_file(folder, METHODS=METHODS, SET=SET), cohort=1)
    assert report.ok, report.failed
    assert [len(group) for group in pool.begun] == [1] * 5
    return bytes_of(folder)


@pytest.mark.parametrize(("cohort", "groups"), [(AUTO, [1, 4]), (3, [1, 3, 1])])
def test_a_grid_in_cohorts_ends_in_the_bytes_of_one_without(tmp_path, apart, cohort, groups):
    lines = []
    file = grid_file(tmp_path, METHODS=METHODS, SET=SET)
    report, pool = train(tmp_path / "runs", file, cohort=cohort, announce=lines.append)
    assert report.ok, report.failed
    assert [len(group) for group in pool.begun] == groups
    assert bytes_of(tmp_path) == apart
    assert len(lines) == 5
    states = read_states(report.folder)
    assert {state["status"] for state in states.values()} == {"done"}
    assert not list((report.folder / STATE_DIR).glob("*.lock"))


@pytest.mark.slow
def test_two_teachers_and_seeds_in_worker_processes(tmp_path):
    runs = {}
    for cohort in ("off", "auto"):
        (tmp_path / cohort).mkdir()
        words = ["grid", str(two_teachers(tmp_path / cohort)), "--prefix", str(tmp_path / cohort / "runs")]
        assert main([*words, "--cohort", cohort, "--jobs", "1", "--threads", "1"]) == 0
        runs[cohort] = bytes_of(tmp_path / cohort)
    assert len(runs["off"]) == 8
    assert runs["off"] == runs["auto"]


def test_a_member_that_fails_leaves_the_others(tmp_path, apart):
    methods = [*METHODS, {"TYPE": "LDRLD", "SET": {"LDRLD.K": 99}}]
    report, pool = train(tmp_path / "runs", grid_file(tmp_path, METHODS=methods, SET=SET))
    assert [len(group) for group in pool.begun] == [1, 5]
    (reason,) = report.failed.values()
    assert "expects 2 to 9" in reason
    assert bytes_of(tmp_path) == apart
    states = read_states(report.folder)
    assert sorted(state["status"] for state in states.values()) == ["done"] * 5 + ["failed"]
    (trace,) = (report.folder / STATE_DIR).glob("*.log")
    assert trace.read_text().startswith("Traceback")


def test_members_of_a_worker_that_died_are_run_one_by_one(tmp_path, apart, caplog):
    def dies(group):
        return Outcome(error="the worker process died", died=True) if len(group) > 1 else None

    report, pool = train(tmp_path / "runs", grid_file(tmp_path, METHODS=METHODS, SET=SET), pool=InlinePool(before=dies))
    assert report.ok, report.failed
    assert [len(group) for group in pool.begun] == [1, 4, 1, 1, 1, 1]
    assert not any(alone for _, alone in pool.kinds)
    assert bytes_of(tmp_path) == apart
    assert "a worker died with 4 runs" in caplog.text


def test_a_run_whose_worker_dies_by_itself_has_failed(tmp_path):
    def dies(group):
        return Outcome(error="the worker process died", died=True) if group != [0] else None

    report, pool = train(tmp_path / "runs", grid_file(tmp_path, METHODS=METHODS, SET=SET), pool=InlinePool(before=dies))
    assert set(report.failed.values()) == {"the worker process died"}
    assert [len(group) for group in pool.begun] == [1, 4, 1, 1, 1, 1]


@pytest.mark.slow
def test_a_worker_killed_with_its_cohort(tmp_path, apart):
    """The death of a real process: what it had saved is gone on from."""
    (tmp_path / "dies.py").write_text(DIES)
    file = grid_file(tmp_path, METHODS=METHODS, SET=SET)
    words = [sys.executable, "-m", "kdbench", "grid", str(file), "--prefix", str(tmp_path / "runs"), "--jobs", "1"]
    done = subprocess.run([*words, "--import", str(tmp_path / "dies.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a worker died with 4 runs" in done.stderr
    assert (tmp_path / "died").exists()
    assert bytes_of(tmp_path) == apart


DIES = """
import os
from pathlib import Path
from kdbench.engine.training.trainer import Trainer

began = Trainer.begin

def begin(self, epoch):
    died = Path(__file__).with_name("died")
    if epoch == 2 and self.distiller.name == "CRD" and not died.exists():
        died.touch()
        os._exit(1)
    began(self, epoch)

Trainer.begin = begin
"""


def test_a_second_grid_waits_for_what_a_cohort_of_another_holds(tmp_path, apart):
    file = grid_file(tmp_path, METHODS=METHODS, SET=SET)
    first, _ = train(tmp_path / "runs", file)
    keys = {cell["method"]: cell["key"] for cell in json.loads((first.folder / "grid.json").read_text())["cells"]}
    done = {method: (first.folder / STATE_DIR / f"{key}.json").read_text() for method, key in keys.items()}
    for key in keys.values():
        (first.folder / STATE_DIR / f"{key}.json").unlink()
    for run in first.results.values():
        if run.method in ("DKD", "CRD"):
            (Path(run.folder) / "result.json").unlink()
    before = {run.method: Path(run.folder) / "result.json" for run in first.results.values()}
    stamp = before["KD"].stat().st_mtime_ns
    lines = []
    with held(first.folder, keys["Vanilla"]), held(first.folder, keys["KD"]):

        def other_ends(group):
            if len(group) > 1:  # the other grid ends while this one is at its own cohort
                for method in ("Vanilla", "KD"):
                    write_state(first.folder, keys[method], json.loads(done[method]))
            return None

        pool = InlinePool(before=other_ends)
        report, _ = train(tmp_path / "runs", file, pool=pool, announce=lines.append)
    assert report.ok, report.failed
    assert [len(group) for group in pool.begun] == [4]
    assert sorted(line.split()[1] for line in lines if "done before" in line) == ["KD", "Vanilla", "teacher"]
    assert before["KD"].stat().st_mtime_ns == stamp
    assert bytes_of(tmp_path) == apart


def test_nonsense_is_one_line(tmp_path, capsys):
    assert main(["grid", str(grid_file(tmp_path)), "--prefix", str(tmp_path / "runs"), "--cohort", "nonsense"]) == 2
    assert capsys.readouterr().err.strip().splitlines() == [
        "kdbench: --cohort expects auto, off or a number of runs, got 'nonsense'"
    ]
    assert not (tmp_path / "runs").exists()


def test_workers_note_the_epoch_of_every_member(tmp_path, monkeypatch):
    seen = {}
    really = write_state

    def look(folder, key, record, **more):
        if record["status"] == "done":
            seen[key] = read_lock(Path(folder) / STATE_DIR / f"{key}.lock")
        really(folder, key, record, **more)

    monkeypatch.setattr("kdbench.bench.grids.lock.NOTE", 0.0)
    monkeypatch.setattr("kdbench.bench.running.run_task.write_state", look)
    report, pool = train(tmp_path / "runs", grid_file(tmp_path, METHODS=["KD", "DKD"], SET=SET))
    assert report.ok, report.failed
    assert [len(group) for group in pool.begun] == [1, 2]
    at = [{key: record[key] for key in ("epoch", "epochs", "step", "steps", "pid")} for record in seen.values()]
    cells = {"epoch": 2, "epochs": 2, "step": 2, "steps": 2, "pid": os.getpid()}
    assert at == [{**cells, "epoch": 1, "epochs": 1}, cells, cells]
    assert not any("gpu_bytes" in record for record in seen.values())


def test_a_note_that_fails_is_no_failure_of_the_run(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no space left")

    monkeypatch.setattr("kdbench.bench.grids.lock.os.replace", refuse)
    own = load_config(overrides={**FAKE, "DISTILLER.STUDENT": "small_cnn", "LOG.PREFIX": str(tmp_path / "r")})
    steps = []

    def train_two_steps(cfg, progress):
        steps.extend((progress(1, step, 2), step) for step in (1, 2))
        return SimpleNamespace(run_id="r")

    monkeypatch.setattr("kdbench.bench.grids.lock.NOTE", 0.0)
    monkeypatch.setattr("kdbench.bench.running.run_task.train", train_two_steps)
    monkeypatch.setattr("kdbench.bench.running.run_task.write_state", lambda *_: None)
    result, _ = run_task(own, (), str(tmp_path), "k")
    assert (result.run_id, len(steps)) == ("r", 2)
