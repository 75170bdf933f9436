"""The CSV of a table's rows: the same table, statistics and report come of it; what is no such file is refused in one line."""

from __future__ import annotations

import csv as csv_files
import re

import pytest
from small_grids import tuned_grid
from synthetic_runs import write_run

import kdbench
from kdbench.bench.comparison.report import report
from kdbench.bench.comparison.table import build_table
from kdbench.bench.pictures.cost import costs
from kdbench.bench.pictures.every import plot_all
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.main import main
from kdbench.errors import KdbenchError


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder of a grid with tuned cells, and the file of its rows."""
    folder = tmp_path_factory.mktemp("rows")
    changes = {"SEEDS": [1, 2], "METHODS": ["Vanilla", {"TYPE": "KD", "LABEL": "=KD, 1"}]}
    sweep = {"SPACE": {"=KD, 1": {"TEMPERATURE": [1, 2, 4, 8]}}}
    run_grid(tuned_grid(folder, sweep, **changes), prefix=str(folder / "runs"), jobs=1)
    assert main(["table", str(folder / "runs" / "g"), "--rows", str(folder / "rows.csv")]) == 0
    return folder / "runs" / "g", folder / "rows.csv"


@pytest.mark.parametrize("select", ["last", "best", "selected"])
def test_the_table_of_the_file_is_that_of_the_folder(tuned, select):
    one, two = (build_table(place, select=select, baseline="Vanilla") for place in tuned)
    assert one.cells.keys() == two.cells.keys()
    assert {place: cell.values for place, cell in one.cells.items()} == {p: c.values for p, c in two.cells.items()}
    assert one.gains == two.gains
    assert one.teachers == two.teachers
    assert (one.pairs, one.methods, one.tuned) == (two.pairs, two.methods, two.tuned)
    assert (
        "=KD, 1 (tuned): 3 trials for each method and pair with seed 101 (random), chosen on the validation part."
        in two.notes()
    )


def test_statistics_pictures_and_report_of_the_file(tuned, tmp_path):
    folder, file = tuned
    cut = "## Over pairs"  # behind it stand the notes
    assert report(build_table(file)).split(cut)[0] == report(build_table(folder)).split(cut)[0]
    own, again = costs(folder), costs(file)
    assert again.seconds.tolist() == pytest.approx(own.seconds.tolist(), abs=1e-4)
    names = {path.name for path in plot_all(file, build_table(file), tmp_path)}
    assert names == {"accuracy.png", "cost.png", "differences.png"}
    assert all((tmp_path / name).stat().st_size > 1000 for name in names)
    assert main(["report", str(file), "--out", str(tmp_path / "page.html")]) == 0
    assert "A file of rows has no curves." in (tmp_path / "page.html").read_text()


def test_labels_that_a_spreadsheet_would_run_are_texts_in_the_file(tuned):
    with tuned[1].open(newline="") as stream:
        labels = {row["label"] for row in csv_files.DictReader(stream)}
    assert labels == {"Vanilla", "'=KD, 1", "'=KD, 1 (tuned)"}
    assert build_table(tuned[1]).methods == ["Vanilla", "=KD, 1", "=KD, 1 (tuned)"]


def test_a_failed_cell_stays_failed(tmp_path):
    grid = {"METHODS": ["KD", {"TYPE": "OFD", "LABEL": "bad"}], "SEEDS": [1]}  # undefined under a Mixer
    run_grid(tuned_grid(tmp_path, **grid), prefix=str(tmp_path / "runs"), jobs=1)
    folder, file = tmp_path / "runs" / "g", tmp_path / "r.csv"
    assert main(["table", str(folder), "--rows", str(file)]) == 0
    assert build_table(file).failed == build_table(folder).failed == {("A -> small_cnn", "bad")}


def test_runs_outside_a_grid_have_rows_too(tmp_path):
    for seed in (1, 2):
        for method in ("Vanilla", "KD"):
            write_run(tmp_path / "runs", method=method, seed=seed, top1=50.0 + seed)
    assert main(["table", str(tmp_path / "runs"), "--rows", str(tmp_path / "r.csv")]) == 0
    assert build_table(tmp_path / "r.csv").to_markdown() == build_table(tmp_path / "runs").to_markdown()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda text: "", "no CSV of runs"),
        (lambda text: "\0\1", "no CSV of runs"),
        (lambda text: text + '"x', "no CSV of runs: EOF inside string starting at row 7"),
        (
            lambda text: text.replace("top1_last", "top_last"),
            "without the column 'top1_last' (did you mean 'top_last'?)",
        ),
        (lambda text: text.replace("pair,", "pear,", 1), "without the column 'pair'"),
    ],
)
def test_what_is_no_file_of_rows_is_refused(tuned, tmp_path, capsys, change, part):
    (tmp_path / "r.csv").write_text(change(tuned[1].read_text()))
    assert main(["table", str(tmp_path / "r.csv")]) == 2
    assert part in capsys.readouterr().err


def with_value(file, copy, choose, column, value):
    """A copy of the rows, one of which has another value."""
    with file.open(newline="") as stream:
        rows = list(csv_files.DictReader(stream))
    choose(rows)[column] = value
    with copy.open("w", newline="") as stream:
        writer = csv_files.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        ("top1_last", "101", "line 2: top1_last expects an accuracy in percent, got '101'"),
        ("top1_last", "nan?", "line 2: top1_last expects an accuracy in percent, got 'nan?'"),
        ("top1_last", "", "line 2: top1_last is empty"),
        ("seed", "-1", "line 2: seed expects a number, got '-1'"),
        ("seed", "inf", "line 2: seed expects a number, got 'inf'"),
        ("pair", "", "line 2: pair is empty"),
    ],
)
def test_values_that_are_none_are_refused(tuned, tmp_path, column, value, part):
    with_value(tuned[1], tmp_path / "r.csv", lambda rows: rows[0], column, value)
    with pytest.raises(KdbenchError) as caught:
        kdbench.build_table(tmp_path / "r.csv")
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["{file}", "--rows", "x.csv"], "--rows writes the rows of a results folder: name one"),
        (["{folder}", "--rows", "x.txt"], "--rows 'x.txt': expects a name that ends in .csv"),
        (["nowhere.csv"], "nowhere.csv: no CSV of runs"),
    ],
)
def test_words_that_do_not_go_together(tuned, words, part, capsys):
    folder, file = tuned
    assert main(["table", *(word.format(folder=folder, file=file) for word in words)]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("method", "DKD", "has runs of several kinds: method 'KD' and 'DKD'"),
        ("student", "small_vit", "has runs of several kinds: student 'small_cnn' and 'small_vit'"),
        ("dataset", "cifar10", "several kinds: dataset"),
        ("teacher", "small_cnn", "several kinds: teacher"),
        ("seed", "4.5", "seed expects whole numbers, got 4.5"),
    ],
)
def test_a_cell_of_several_kinds_of_runs_is_refused(tuned, tmp_path, column, value, said):
    def last(rows):
        return [row for row in rows if row["method"] == "KD"][-1]

    with_value(tuned[1], tmp_path / "r.csv", last, column, value)
    with pytest.raises(KdbenchError, match=re.escape(said)):
        build_table(tmp_path / "r.csv")


@pytest.fixture
def among_failed(tuned, tmp_path):
    """Rows of a file whose first one is that of a cell that failed, and a function that writes them."""
    with tuned[1].open(newline="") as stream:
        header, *rows = csv_files.reader(stream)
    failed = {"pair": "A -> small_cnn", "label": "bad", "error": "undefined"}
    header = [*header, "error"]
    rows = [[failed.get(name, "") for name in header], *([*row, ""] for row in rows)]

    def write(rows):
        with (tmp_path / "r.csv").open("w", newline="") as stream:
            csv_files.writer(stream).writerows([header, *rows])
        return tmp_path / "r.csv"

    return header, rows, write


def test_two_runs_of_a_seed_are_named_by_their_lines(among_failed):
    _, rows, write = among_failed
    said = f"lines 3 and {len(rows) + 2}: two runs of A -> small_cnn / Vanilla with seed 1"
    with pytest.raises(KdbenchError, match=said):
        build_table(write([*rows, rows[1]]))


def test_a_gap_is_named_by_its_line_in_the_file(among_failed):
    header, rows, write = among_failed
    rows[2][header.index("run_id")] = ""
    with pytest.raises(KdbenchError, match="line 4: run_id is empty"):
        build_table(write(rows))
