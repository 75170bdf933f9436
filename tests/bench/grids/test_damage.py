"""Files of a grid that are damaged, or that tell of another run: healed or refused in one line, and never another run's figure."""

from __future__ import annotations

import json
import shutil

import pytest
from inline_pool import InlinePool
from mutations import mutations
from small_grids import two_teachers

from kdbench.bench.comparison.table import build_table
from kdbench.bench.grids.grid_record import GRID_FILE, read_grid_record
from kdbench.bench.grids.lock import STATE_DIR
from kdbench.bench.grids.state import read_states, write_state
from kdbench.bench.grids.status import grid_status
from kdbench.bench.paper.own_runs import OwnRuns
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.main import main
from kdbench.errors import KdbenchError
from kdbench.records import read_record, write_record

METHODS = ["Vanilla", "KD", {"LABEL": "DKD-2", "TYPE": "DKD", "SET": {"DKD.BETA": 2.0}}]
METHODS += [{"LABEL": "DKD-4", "TYPE": "DKD", "SET": {"DKD.BETA": 4.0}}]


def train(root, **more):
    report = run_grid(root / "grid.yaml", prefix=str(root / "runs"), pool=InlinePool(), cohort=1, **more)
    assert report.ok, report.failed
    return report


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    two_teachers(root, METHODS=METHODS, SEEDS=[1])
    train(root)
    return root


@pytest.fixture
def root(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "g")
    return tmp_path / "g"


@pytest.fixture
def folder(root):
    return root / "runs" / "g"


def runs(folder) -> dict[tuple[str, str], str | None]:
    """Names of the runs of a grid's cells."""
    return {(cell["pair"], cell["method"]): cell["run"] for cell in read_grid_record(folder)["cells"]}


def key_of(folder, method: str, pair: str = "A -> small_cnn") -> str:
    record = read_record(folder / GRID_FILE, {}, {})
    return next(c["key"] for c in record["cells"] if (c["pair"], c["method"]) == (pair, method))


def forget_runs(folder) -> None:
    """As ``grid.json`` is while the grid is under way: the state alone knows of runs."""
    record = read_record(folder / GRID_FILE, {}, {})
    cells = [{**cell, "run": None} for cell in record["cells"]]
    write_record(folder / GRID_FILE, {**record, "trained": {}, "cells": cells})


def files_of(folder, kind: str):
    if kind == "state of a cell":
        return folder / STATE_DIR / f"{key_of(folder, 'DKD-2')}.json"
    if kind == "state of a teacher":
        return folder / STATE_DIR / f"{read_record(folder / GRID_FILE, {}, {})['teachers']['A']}.json"
    if kind == "result":
        return next(folder.glob("KD-*")) / "result.json"
    return folder / GRID_FILE


@pytest.mark.parametrize("under_way", [False, True])
@pytest.mark.parametrize("kind", ["state of a cell", "state of a teacher", "grid.json", "result"])
def test_tables_and_status_know_no_run_that_is_not_the_cells(folder, kind, under_way, caplog):
    if under_way:
        forget_runs(folder)
    whole, table = runs(folder), build_table(folder).to_markdown()
    file = files_of(folder, kind)
    content = file.read_bytes()
    for what, changed in mutations(content):
        caplog.clear()
        file.write_bytes(changed)
        try:
            found = runs(folder)
            assert all(run in (whole[cell], None) for cell, run in found.items()), what
            # of a record without a seal only the form is known
            bare = what.startswith("no seal") and kind in ("grid.json", "result")
            assert bare or len(found) == len(whole), what
            assert grid_status(folder).total["done"] == sum(run is not None for run in found.values()), what
            if found == whole and not bare:
                assert build_table(folder).to_markdown() == table, what
        except (KdbenchError, ValueError):
            with pytest.raises(KdbenchError, match="is damaged"):
                grid_status(folder)
            with pytest.raises(KdbenchError, match="is damaged"):
                build_table(folder)
            assert not OwnRuns(folder)._cells, what
        aside = file.with_name(f"{file.name}.damaged")
        assert sum("it is renamed to" in line for line in caplog.messages) == aside.exists(), what
        aside.unlink(missing_ok=True)
        file.write_bytes(content)
    assert runs(folder) == whole


@pytest.mark.parametrize("kind", ["state of a cell", "state of a teacher", "grid.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'{"status": "done"}', "cut", "flipped"])
def test_the_grid_heals_what_is_damaged(root, folder, kind, content, caplog):
    before = runs(folder)
    file = files_of(folder, kind)
    whole = file.read_bytes()
    if isinstance(content, str):
        content = whole[: len(whole) // 2] if content == "cut" else whole.replace(b'"', b"'", 1)
    file.write_bytes(content)
    stamps = {result: result.stat().st_mtime_ns for result in folder.rglob("result.json")}
    lines: list[str] = []
    train(root, announce=lines.append)
    assert all("done before" in line for line in lines)
    assert {result: result.stat().st_mtime_ns for result in folder.rglob("result.json")} == stamps
    assert [line for line in caplog.messages if f"{file} is damaged" in line]
    assert file.with_name(f"{file.name}.damaged").read_bytes() == content
    assert runs(folder) == before
    assert grid_status(folder).total == {"done": 8, "running": 0, "failed": 0, "waiting": 0}
    assert set(grid_status(folder).teachers.values()) == {"done"}


def test_the_grid_writes_changed_metrics_anew(root, folder):
    metrics = next(folder.glob("KD-*")) / "metrics.jsonl"
    content = metrics.read_bytes()
    metrics.write_bytes(content.replace(b'"top1": ', b'"top1": 1'))
    train(root)
    assert metrics.read_bytes() == content


def test_status_without_the_states_knows_the_runs_by_their_folders(folder):
    shutil.rmtree(folder / STATE_DIR)
    assert grid_status(folder).total["done"] == 8
    assert set(grid_status(folder).teachers.values()) == {"done"}


def test_status_of_runs_that_are_gone(folder):
    for run in folder.glob("KD-*"):
        shutil.rmtree(run)
    assert grid_status(folder).total == {"done": 6, "running": 0, "failed": 0, "waiting": 2}


OTHERS = {
    "another method": ("KD", "A -> small_cnn"),
    "another teacher": ("DKD-2", "B -> small_cnn"),
    "no teacher": ("Vanilla", "A -> small_cnn"),
    "another option": ("DKD-4", "A -> small_cnn"),
}


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("other", OTHERS)
def test_another_cells_run_in_the_state_is_not_this_ones(root, folder, other, sealed, caplog):
    """Whether somebody wrote the state so, or it was written before there were seals."""
    whole = runs(folder)
    key, wrong = key_of(folder, "DKD-2"), next(run for cell, run in whole.items() if cell == OTHERS[other][::-1])
    state = {"status": "done", "run": wrong, "seconds": 1.0}
    write_state(folder, key, state)
    if not sealed:
        (folder / STATE_DIR / f"{key}.json").write_text(json.dumps(state))
    forget_runs(folder)
    if other != "another option":  # that is told apart by whoever can read configurations: the grid itself
        assert runs(folder)["A -> small_cnn", "DKD-2"] is None
        assert "is not taken for it" in caplog.text
    train(root)
    assert runs(folder) == whole
    assert read_states(folder)[key]["run"] == whole["A -> small_cnn", "DKD-2"]


@pytest.mark.parametrize("other", [name for name in OTHERS if name != "another option"])
def test_another_cells_run_in_the_grids_record_is_not_this_ones(folder, other):
    whole = runs(folder)
    record = read_record(folder / GRID_FILE, {}, {})
    for cell in record["cells"]:
        if (cell["pair"], cell["method"]) == ("A -> small_cnn", "DKD-2"):
            cell["run"] = whole[OTHERS[other][::-1]]
    write_record(folder / GRID_FILE, record)
    assert runs(folder) == whole  # which the state knows


def test_another_runs_state_under_this_ones_name_is_damaged(folder, caplog):
    mine, other = (folder / STATE_DIR / f"{key_of(folder, method)}.json" for method in ("DKD-2", "DKD-4"))
    shutil.copy(other, mine)
    assert mine.name.partition(".")[0] not in read_states(folder)
    assert "it is the state of" in caplog.text


def test_states_without_a_seal_are_sealed_when_they_are_next_written(root, folder):
    file = folder / STATE_DIR / f"{key_of(folder, 'KD')}.json"
    record = read_record(file, {}, {})
    file.write_text(json.dumps({"status": record["status"], "run": record["run"]}))
    assert read_states(folder)[file.stem]["run"] == record["run"]
    (folder / GRID_FILE).write_text(json.dumps(read_record(folder / GRID_FILE, {}, {})))
    train(root)
    assert "seal" in json.loads((folder / GRID_FILE).read_text())
    write_state(folder, file.stem, record)
    assert "seal" in json.loads(file.read_text())


def test_the_result_of_another_run_in_a_runs_folder_is_none(root, folder):
    whole, table = runs(folder), build_table(folder).to_markdown()
    mine, other = (folder / str(whole["A -> small_cnn", method]) / "result.json" for method in ("DKD-2", "DKD-4"))
    content = mine.read_bytes()
    shutil.copy(other, mine)
    assert runs(folder)["A -> small_cnn", "DKD-2"] is None
    assert "missing" in build_table(folder).to_markdown()
    train(root)
    assert mine.with_name("result.json.damaged").is_file()
    assert json.loads(mine.read_bytes())["top1_last"] == json.loads(content)["top1_last"]
    assert build_table(folder).to_markdown() == table


def test_runs_beside_a_damaged_record_stand_in_no_cell_of_the_papers_tables(folder, caplog):
    assert OwnRuns(folder)._cells
    (folder / GRID_FILE).write_text("{")
    assert not OwnRuns(folder)._cells
    assert "the runs beside it are left out" in caplog.text


def test_one_line_on_the_command_line(root, folder, capsys):
    (folder / GRID_FILE).write_text("null")
    for words in (
        ["table", str(folder)],
        ["grid", str(root / "grid.yaml"), "--prefix", str(root / "runs"), "--status"],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_failure_that_is_damaged_is_no_failure(tmp_path, caplog):
    write_state(tmp_path, "k", {"status": "failed", "error": "x"})
    file = tmp_path / STATE_DIR / "k.json"
    file.write_text(file.read_text().replace('"x"', '"y"'))
    assert read_states(tmp_path) == {}
    assert len(caplog.messages) == 1
    assert read_states(tmp_path) == {}
    assert len(caplog.messages) == 1
