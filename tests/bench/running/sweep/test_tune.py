"""Tuning a grid: equal trials, the same whoever runs them, chosen on the validation part alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from child_python import run_python
from inline_pool import InlinePool
from small_grids import grid_file, tuned_grid

import kdbench
from kdbench.bench.comparison.render import render_table
from kdbench.bench.comparison.report import report as statistics
from kdbench.bench.comparison.table import build_table
from kdbench.bench.grids.status import grid_status
from kdbench.bench.running.run_grid import run_grid
from kdbench.bench.running.smoke import smoke
from kdbench.cli.main import main
from kdbench.errors import KdbenchError

pytest.importorskip("optuna")
BOTH = {"TRIALS": 4, "SEEDS": [101, 102], "SPACE": {"ALL": {"SOLVER.LR": {"LOW": 0.001, "HIGH": 0.1, "LOG": True}}}}
TPE = {"TRIALS": 6, "SAMPLER": "tpe", "ROUNDS": 3}
HUGE = 1e38  # a weight under which no loss is finite


def run(file, **settings):
    lines = []
    settings = {"pool": InlinePool(), **settings}
    found = run_grid(file, prefix=str(file.parent / "runs"), announce=lines.append, foretell=lines.append, **settings)
    return found, lines


def sweep_of(folder):
    return json.loads((folder / "runs" / "g" / "grid.json").read_text())["sweep"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    found, lines = run(tuned_grid(folder, BOTH, SEEDS=[1, 2]))
    assert found.ok, found.failed
    return folder, found, lines


def test_every_method_has_as_many_trials(tuned):
    folder, found, lines = tuned
    sweep = sweep_of(folder)
    assert [(s["method"], len(s["trials"]), s["chosen"] is not None) for s in sweep["studies"]] == [
        ("Vanilla", 4, True),
        ("KD", 4, True),
    ]
    assert all(len(trial["keys"]) == 2 for study in sweep["studies"] for trial in study["trials"])
    assert lines[0] == "tuning: 8 trials, 16 runs"
    assert [line for line in lines if "(trial" in line and "validation top-1" not in line] == []
    assert found.results.keys() >= {"KD         A -> small_cnn  seed 1"}


def test_the_first_trial_has_the_published_values_and_others_lie_in_the_space(tuned):
    for study in sweep_of(tuned[0])["studies"]:
        first, *others = (trial["values"]["SOLVER.LR"] for trial in study["trials"])
        assert first == 0.01
        assert all(0.001 <= value <= 0.1 for value in others)
        assert len(set(others)) == 3
        assert all(value == float(f"{value:.4g}") for value in others)  # a table shows what was run


def test_the_choice_is_the_highest_validation_accuracy_and_of_equal_ones_the_first(tuned):
    for study in sweep_of(tuned[0])["studies"]:
        scores = [trial["score"] for trial in study["trials"]]
        assert study["chosen"] == scores.index(max(scores)) + 1


def test_tuned_cells_are_trained_with_the_chosen_values(tuned):
    folder, _, _ = tuned
    frame = kdbench.load_results(folder / "runs", hyperparameters=True)
    record = json.loads((folder / "runs" / "g" / "grid.json").read_text())
    for study in record["sweep"]["studies"]:
        wanted = study["trials"][study["chosen"] - 1]["values"]["SOLVER.LR"]
        runs = {c["run"] for c in record["cells"] if c["method"] == f"{study['method']} (tuned)"}
        assert len(runs) == 2
        assert set(frame[frame.run_id.isin(runs)]["SOLVER.LR"]) == {wanted}


def test_trials_are_no_results(tuned):
    folder, _, _ = tuned
    runs = kdbench.load_results(folder / "runs")
    assert not {101, 102} & set(runs.seed)
    every = kdbench.load_results(folder / "runs", trials=True)
    trials = every[every.trial.notna()]
    assert set(trials.seed) == {101, 102}
    assert set(trials.label) == {"Vanilla", "KD"}
    assert sorted(trials[trials.label == "KD"].trial) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len(every) == len(runs) + 16
    curves = kdbench.load_curves(folder / "runs")
    assert set(curves.run_id) == set(runs.run_id)
    assert set(kdbench.load_curves(folder / "runs", trials=True).run_id) == set(every.run_id)


def test_runs_that_were_trials_stay_no_results_when_the_grid_no_longer_tunes(tuned, tmp_path):
    shutil.copytree(tuned[0] / "runs", tmp_path / "runs")
    before = set(kdbench.load_results(tmp_path / "runs").run_id)
    file = tuned_grid(tmp_path, BOTH, SEEDS=[1, 2])
    tree = yaml.safe_load(file.read_text())
    del tree["SWEEP"]
    file.write_text(yaml.safe_dump(tree))
    assert run(file)[0].ok
    assert "sweep" not in json.loads((tmp_path / "runs" / "g" / "grid.json").read_text())
    assert set(kdbench.load_results(tmp_path / "runs").run_id) == before
    every = kdbench.load_results(tmp_path / "runs", trials=True)
    assert set(every[~every.run_id.isin(before)].seed) == {101, 102}


@pytest.mark.parametrize("form", ["md", "latex", "html", "text"])
def test_every_format_says_how_values_were_chosen(tuned, form):
    text = " ".join(render_table(build_table(tuned[0] / "runs" / "g"), form, width=200).split())
    assert "4 trials for each method and pair with seeds 101, 102 (random search" in text
    assert "chosen on the validation part" in text
    for study in sweep_of(tuned[0])["studies"]:
        value = study["trials"][study["chosen"] - 1]["values"]["SOLVER.LR"]
        assert str(value) in text


def test_spreadsheets_and_statistics_say_it_too(tuned):
    table = build_table(tuned[0] / "runs" / "g")
    frame = table.to_frame().set_index("method")
    assert frame.trials["KD (tuned)"] == 4
    assert frame.chosen_on["KD (tuned)"] == "validation part"
    assert frame["values"]["KD (tuned)"].startswith("SOLVER.LR 0.")
    assert frame.isna().trials["KD"]
    assert ",4,101 102,random,validation part," in render_table(table, "csv")
    assert "chosen on the validation part" in statistics(table)
    assert table.methods == ["Vanilla", "Vanilla (tuned)", "KD", "KD (tuned)"]
    blocks = build_table(tuned[0] / "runs", blocks=True)
    assert "4 trials for each method and pair" in " ".join(blocks.notes())


def test_a_report_says_it(tuned, tmp_path):
    assert main(["report", str(tuned[0] / "runs" / "g"), "--out", str(tmp_path / "page.html")]) == 0
    assert "4 trials for each method and pair" in (tmp_path / "page.html").read_text()


def test_the_status_counts_trials(tuned, capsys):
    folder = tuned[0] / "runs" / "g"
    status = grid_status(folder)
    assert status.trials == {"done": 8, "running": 0, "failed": 0, "waiting": 0}
    assert status.total["done"] == 8
    assert main(["grid", str(folder), "--status"]) == 0
    assert "trials" in capsys.readouterr().out


def test_a_second_command_runs_nothing(tuned, tmp_path):
    folder, _, _ = tuned
    before = sweep_of(folder)
    pool = InlinePool()
    found, lines = run(folder / "grid.yaml", pool=pool)
    assert found.ok
    assert pool.begun == []
    assert not any("to do" in line for line in lines)
    assert sweep_of(folder) == before


def test_methods_without_a_space_are_named(tmp_path):
    run(tuned_grid(tmp_path))
    table = build_table(tmp_path / "runs" / "g")
    assert table.methods == ["Vanilla", "KD", "KD (tuned)"]
    assert table.notes()[0].endswith("Not tuned: Vanilla.")


@pytest.mark.parametrize("sweep", [{}, TPE, {"SAMPLER": "qmc"}], ids=["random", "tpe", "qmc"])
def test_the_same_whatever_runs_together(tmp_path, sweep):
    found = []
    for name, settings in (("a", {}), ("b", {"pool": InlinePool(room=3), "cohort": 1})):
        (tmp_path / name).mkdir()
        report, _ = run(tuned_grid(tmp_path / name, sweep), **settings)
        assert report.ok, report.failed
        found.append(sweep_of(tmp_path / name))
    assert found[0] == found[1]
    values = [json.dumps(trial["values"]) for trial in found[0]["studies"][0]["trials"]]
    assert len(set(values)) == len(values)


@pytest.mark.slow
def test_the_same_with_two_workers(tmp_path):
    found = []
    for name, settings in (("a", {}), ("b", {"pool": None, "jobs": 2, "threads": 1})):
        (tmp_path / name).mkdir()
        report, _ = run(tuned_grid(tmp_path / name, TPE), **settings)
        assert report.ok, report.failed
        found.append(sweep_of(tmp_path / name))
    assert found[0] == found[1]


@pytest.mark.parametrize("moment", [0, 2, 3, 5, 7])
def test_a_grid_that_is_killed_goes_on(tmp_path, moment):
    (tmp_path / "calm").mkdir()
    run(tuned_grid(tmp_path / "calm", TPE))

    class Killed(BaseException):
        pass

    class Deadly(InlinePool):
        def start(self, *args, **more):
            if len(self.begun) == moment:
                raise Killed
            super().start(*args, **more)

    file = tuned_grid(tmp_path, TPE)
    with pytest.raises(Killed):
        run(file, pool=Deadly(), cohort=1)
    journal = (tmp_path / "runs" / "g" / "sweep.journal").read_bytes()
    found, _ = run(file)
    assert found.ok
    assert sweep_of(tmp_path) == sweep_of(tmp_path / "calm")
    assert (tmp_path / "runs" / "g" / "sweep.journal").read_bytes().startswith(journal)  # nothing was asked anew


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.95])
def test_a_journal_that_breaks_off_is_drawn_anew(tmp_path, share):
    file = tuned_grid(tmp_path, TPE)
    run(file)
    before = sweep_of(tmp_path)
    journal = tmp_path / "runs" / "g" / "sweep.journal"
    content = journal.read_bytes()
    journal.write_bytes(content[: int(len(content) * share)])
    pool = InlinePool()
    run(file, pool=pool)
    assert pool.begun == []
    assert sweep_of(tmp_path) == before


def test_a_journal_that_is_none_is_set_aside(tmp_path, caplog):
    file = tuned_grid(tmp_path)
    run(file)
    before = sweep_of(tmp_path)
    journal = tmp_path / "runs" / "g" / "sweep.journal"
    journal.write_bytes(b'{"op_code": "x"}\n[1]\n\x00\xff\n')
    found, _ = run(file)
    assert found.ok
    assert "sweep.journal is damaged" in caplog.text
    assert sweep_of(tmp_path) == before
    assert main(["clean", str(tmp_path / "runs"), "--yes"]) == 0
    assert not journal.with_name("sweep.journal.damaged").exists()


def test_another_space_is_another_study(tmp_path):
    run(tuned_grid(tmp_path))
    before = sweep_of(tmp_path)
    narrow = {"SPACE": {"KD": {"TEMPERATURE": [3, 4]}}}
    run(tuned_grid(tmp_path, narrow))
    tried = [trial["values"] for trial in sweep_of(tmp_path)["studies"][0]["trials"]]
    assert all(set(values) == {"KD.TEMPERATURE"} and values["KD.TEMPERATURE"] in (3, 4) for values in tried)
    run(tuned_grid(tmp_path))
    assert sweep_of(tmp_path) == before


def test_more_trials_begin_with_those_that_there_were(tmp_path):
    run(tuned_grid(tmp_path))
    before = sweep_of(tmp_path)["studies"][0]["trials"]
    run(tuned_grid(tmp_path, {"TRIALS": 5}))
    after = sweep_of(tmp_path)["studies"][0]["trials"]
    assert (after[:3], len(after)) == (before, 5)


@pytest.mark.parametrize("same", [True, False], ids=["the same recipe", "another recipe"])
def test_what_was_tuned_is_shown_while_added_pairs_are_tuned(tuned, tmp_path, same):
    """And nothing that was tuned by another recipe."""
    shutil.copytree(tuned[0] / "runs", tmp_path / "runs")
    own, before = build_table(tmp_path / "runs" / "g"), sweep_of(tmp_path)
    [pair] = own.pairs
    node = {"CFG": "teacher.yaml"}
    more = {"TEACHERS": {"A": node, "B": {**node, "SET": {"EXPERIMENT.SEED": 2}}}}
    more["PAIRS"] = [{"TEACHER": name, "STUDENT": "small_cnn"} for name in "AB"]

    class Killed(BaseException):
        pass

    class Deadly(InlinePool):
        def start(self, *args, **more):
            raise Killed

    file = tuned_grid(tmp_path, BOTH, SEEDS=[1, 2], **more)
    changes = [] if same else ["SOLVER.MOMENTUM=0.8"]
    with pytest.raises(Killed):
        run(file, pool=Deadly(), overrides=changes)
    if not same:
        with pytest.raises(KdbenchError, match="no finished runs"):
            build_table(tmp_path / "runs" / "g")
        assert [study["chosen"] for study in sweep_of(tmp_path)["studies"]] == [None] * 4
        return
    table = build_table(tmp_path / "runs" / "g")
    assert {m: table.cells[pair, m].values for m in own.methods} == {m: own.cells[pair, m].values for m in own.methods}
    assert {place: fields for place, fields in table.tuned.items() if place[0] == pair} == own.tuned
    found, _ = run(file)
    assert found.ok, found.failed
    assert sweep_of(tmp_path)["studies"][:2] == before["studies"]


def test_a_run_of_two_labels_has_a_row_for_each(tmp_path):
    run(
        tuned_grid(tmp_path, {"TRIALS": 1, "SPACE": {"KD": {"TEMPERATURE": [2, 4]}}}, SEEDS=[1, 2])
    )  # the published values
    runs = kdbench.load_results(tmp_path / "runs")
    assert sorted(runs[runs.label == "KD"].run_id) == sorted(runs[runs.label == "KD (tuned)"].run_id)
    assert runs.groupby("label").seed.nunique().to_dict() == {"": 1, "KD": 2, "KD (tuned)": 2, "Vanilla": 2}


def test_a_table_over_folders_keeps_tuned_methods_apart(tuned, tmp_path):
    folder, _, _ = tuned
    shutil.copytree(folder / "runs", tmp_path / "above")
    table, own = build_table(tmp_path / "above"), build_table(folder / "runs" / "g")
    [pair] = table.pairs
    assert set(table.methods) == set(own.methods)
    for method in table.methods:
        assert table.cells[pair, method].values == own.cells[own.pairs[0], method].values


def test_a_grid_without_runs_is_one_line(tuned, tmp_path, capsys):
    folder, _, _ = tuned
    (tmp_path / "g").mkdir()
    shutil.copy(folder / "runs" / "g" / "grid.json", tmp_path / "g")
    for words in (["table"], ["table", "--stats"], ["report"]):
        assert main([words[0], str(tmp_path / "g"), *words[1:]]) == 2
        assert "no finished runs below" in capsys.readouterr().err
    assert kdbench.load_results(tmp_path / "g").empty


def test_equal_values_are_one_run_and_still_two_trials(tmp_path):
    run(tuned_grid(tmp_path, {"TRIALS": 6, "SPACE": {"KD": {"TEMPERATURE": [2, 4]}}}))
    trials = sweep_of(tmp_path)["studies"][0]["trials"]
    assert len(trials) == 6
    assert len({key for trial in trials for key in trial["keys"]}) == 2


def test_a_run_that_is_in_a_cell_counts_there(tmp_path):
    found, _ = run(tuned_grid(tmp_path, {"SEEDS": [1]}))
    assert found.ok
    record = json.loads((tmp_path / "runs" / "g" / "grid.json").read_text())
    published = next(cell for cell in record["cells"] if cell["method"] == "KD")
    first = record["sweep"]["studies"][0]["trials"][0]
    assert first["keys"] == [published["key"]]
    frame = kdbench.load_results(tmp_path / "runs")
    assert published["run"] in set(frame.run_id)
    assert set(build_table(tmp_path / "runs" / "g").cells) == {
        ("A -> small_cnn", m) for m in ("Vanilla", "KD", "KD (tuned)")
    }


def test_a_trial_that_fails_counts_and_is_not_chosen(tmp_path):
    sweep = {"TRIALS": 4, "SPACE": {"KD": {"LOSS.KD_WEIGHT": [HUGE, 2 * HUGE, 3 * HUGE]}}}
    found, lines = run(tuned_grid(tmp_path, sweep))
    assert found.ok, found.failed
    study = sweep_of(tmp_path)["studies"][0]
    assert study["chosen"] == 1
    assert [bool(trial["error"]) for trial in study["trials"]] == [False, True, True, True]
    assert any("FAILED: NonFiniteLossError" in line for line in lines)
    assert "Trials that failed, and count: A -> small_cnn / KD: 3." in build_table(tmp_path / "runs" / "g").notes()[0]
    assert grid_status(tmp_path / "runs" / "g").trials["failed"] == 3
    again, _ = run(tmp_path / "grid.yaml", retry=True)
    assert again.ok
    assert sweep_of(tmp_path)["studies"][0] == study


def test_where_all_trials_fail_nothing_is_tuned(tmp_path):
    methods = ["Vanilla", {"TYPE": "KD", "SET": {"KD.LOSS.KD_WEIGHT": HUGE}}]
    sweep = {"TRIALS": 2, "SPACE": {"KD": {"LOSS.KD_WEIGHT": [HUGE, 2 * HUGE]}}}
    file = tuned_grid(tmp_path, sweep, METHODS=methods)
    found, lines = run(file)
    reason = found.failed["KD (tuned) A -> small_cnn  seed 1"]
    assert reason.startswith("not tuned: all 2 trials failed (NonFiniteLossError")
    assert "\n" not in reason
    assert any(line.startswith("A -> small_cnn / KD: not tuned: all 2") for line in lines)
    assert build_table(tmp_path / "runs" / "g").absent("A -> small_cnn", "KD (tuned)") == "failed"
    assert any("not tuned" in text for text in grid_status(tmp_path / "runs" / "g").failed.values())


def test_values_that_do_not_go_together_make_a_trial_that_fails(tmp_path):
    keys = {"SOLVER.SCHEDULE_PER": ["step", "epoch"], "SOLVER.WARMUP_EPOCHS": [0, 0.5]}
    found, _ = run(tuned_grid(tmp_path, {"TRIALS": 8, "SPACE": {"KD": keys}}))
    assert found.ok, found.failed
    trials = sweep_of(tmp_path)["studies"][0]["trials"]
    bad = [
        trial for trial in trials if trial["values"] == {"SOLVER.SCHEDULE_PER": "epoch", "SOLVER.WARMUP_EPOCHS": 0.5}
    ]
    assert bad
    assert all("WARMUP_EPOCHS" in trial["error"] and trial["keys"] == [] for trial in bad)


def test_a_teacher_that_fails_leaves_its_students_untuned(tmp_path):
    teachers = {"A": {"CFG": "teacher.yaml", "SET": {"STUDENT.STAGES": [9]}}}
    found, _ = run(tuned_grid(tmp_path, TEACHERS=teachers))
    reason = found.failed["KD (tuned) A -> small_cnn  seed 1"]
    assert "its teacher A failed" in reason
    assert "the same command runs it again" in reason
    assert sweep_of(tmp_path)["studies"][0]["chosen"] is None
    assert run(tuned_grid(tmp_path))[0].failed == {}


def test_optuna_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        KdbenchError, match=r"SWEEP needs optuna, which is not installed: pip install 'kdbench\[sweep\]'"
    ):
        run(tuned_grid(tmp_path))
    assert not list((tmp_path / "runs").rglob("config.yaml"))


@pytest.mark.slow
def test_a_grid_that_tunes_nothing_does_not_import_it(tmp_path):
    file = grid_file(tmp_path)
    code = "\n".join(
        [
            "import sys",
            "from kdbench.cli.main import main",
            "if __name__ == '__main__':",
            f"    assert main(['grid', {str(file)!r}, '--prefix', {str(tmp_path / 'runs')!r}, '--jobs', '1']) == 0",
            "    print('optuna' in sys.modules)",
        ]
    )
    assert run_python(code).split()[-1] == "False"
    assert "sweep" not in (tmp_path / "runs" / "g" / "grid.json").read_text()
    assert not list((tmp_path / "runs" / "g").glob("*sweep*"))


def test_a_dry_run_counts_trials(tuned, tmp_path, capsys):
    folder, _, _ = tuned
    options = ["--prefix", str(folder / "runs"), "--write-configs", str(tmp_path)]
    assert main(["grid", str(folder / "grid.yaml"), "--dry-run", *options]) == 0
    text = capsys.readouterr().out
    assert "KD (tuned) A -> small_cnn  seed 2" in text
    assert "8 cells, 1 teacher: at most 25 runs (1 of teachers; 16 of 8 trials, 4 for each method and pair" in text
    assert "  12 x KD A -> small_cnn: " in text  # two cells, eight of trials, two with chosen values
    assert "those of trials and tuned cells are not known before the trials are asked for" in text
    assert len(list(tmp_path.iterdir())) == 5


def test_smoke(tmp_path):
    found = smoke(tuned_grid(tmp_path), jobs=1)
    assert found.ok
    assert list(found.seconds) == ["teacher A", "Vanilla A -> small_cnn", "KD A -> small_cnn"]


@pytest.mark.slow
def test_kills_and_a_second_command_at_once(tmp_path):
    sweep = {**TPE, "SPACE": {"ALL": {"SOLVER.LR": {"LOW": 0.001, "HIGH": 0.1, "LOG": True}}}}
    (tmp_path / "calm").mkdir()
    run(tuned_grid(tmp_path / "calm", sweep))
    file = tuned_grid(tmp_path, sweep)
    command = [sys.executable, "-m", "kdbench", "grid", str(file), "--prefix", str(tmp_path / "runs"), "--jobs", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    journal = tmp_path / "runs" / "g" / "sweep.journal"
    for more in (1, 400, 900, 1300):  # bytes, so that it dies while it asks or tells, too
        before = journal.stat().st_size if journal.is_file() else 0
        process = subprocess.Popen(command, start_new_session=True, **quiet)
        while process.poll() is None and not (journal.is_file() and journal.stat().st_size >= before + more):
            time.sleep(0.001)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    both = [subprocess.Popen(command, **quiet) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert sweep_of(tmp_path) == sweep_of(tmp_path / "calm")


@pytest.mark.slow
def test_the_shipped_grid(tmp_path):
    assert main(["grid", "configs/grids/tuning.yaml", "--prefix", str(tmp_path)]) == 0
    table = build_table(tmp_path / "tuning")
    assert table.methods == ["Vanilla", "Vanilla (tuned)", "KD", "KD (tuned)", "DKD", "DKD (tuned)"]
    assert {cell.n for cell in table.cells.values()} == {3}
    assert set(table.tuned) == {("Mixer -> CNN", f"{method} (tuned)") for method in ("Vanilla", "KD", "DKD")}
