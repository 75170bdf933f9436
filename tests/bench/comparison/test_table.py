"""Tables from synthetic run folders, right to the digit."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest
from synthetic_runs import write_run

from kdbench.bench.comparison.cell import Gain
from kdbench.bench.comparison.table import build_table
from kdbench.bench.pictures.accuracy import plot_table
from kdbench.bench.results.frames import COLUMNS, run_frame
from kdbench.errors import KdbenchError

ACCURACY = {"KD": [90.0, 91.0, 92.0], "DKD": [91.0, 93.0, 92.0], "Vanilla": [88.0, 89.5, 91.0], "HCD": [95.0]}


def write(folder, method, seed, top1, **extra):
    run = folder / f"{method}-{seed}-{extra.get('student', 's')}"
    run.mkdir(parents=True)
    record = {
        **{"run_id": run.name, "method": method, "teacher": "" if method == "Vanilla" else "t", "student": "s"},
        **{
            "dataset": "d",
            "seed": seed,
            "top1_last": top1,
            "top5_last": 99.0,
            "top1_best": top1 + 1,
            "top5_best": 99.0,
        },
        **{"teacher_top1": None if method == "Vanilla" else 97.0, "best_epoch": 1, "epochs": 2, "top1_selected": None},
        **extra,
    }
    (run / "result.json").write_text(json.dumps(record))


@pytest.fixture
def folder(tmp_path):
    for method, values in ACCURACY.items():
        for seed, value in enumerate(values, 1):
            write(tmp_path, method, seed, value)
    return tmp_path


def test_cells_and_paired_gains(folder):
    table = build_table(folder)
    assert table.pairs == ["t -> s"]
    dkd = table.cells["t -> s", "DKD"]
    assert (dkd.mean, dkd.sd, dkd.n) == (92.0, 1.0, 3)
    assert table.gain("t -> s", "DKD") == Gain(1.0, 1.0, 3)
    hcd = table.gain("t -> s", "HCD")
    assert (hcd.value, hcd.sd, hcd.n) == (5.0, None, 1)
    assert table.gain("t -> s", "KD").value is None
    assert table.gain("t -> s", "Vanilla").value == -1.5


def test_markdown_marks_best_and_second(folder):
    text = build_table(folder).to_markdown()
    assert "**95.00 ± n/a (1)**" in text
    assert "<u>92.00 ± 1.00 (3)</u>" in text
    assert "+1.00" in text
    assert "last epoch" in text


def test_best_epoch_is_another_table(folder):
    table = build_table(folder, select="best")
    assert table.cells["t -> s", "KD"].mean == 92.0
    assert "optimistic" in table.to_markdown()


def test_csv_round_trip(folder):
    frame = build_table(folder).to_frame()
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    pd.testing.assert_frame_equal(frame, again, check_dtype=False)


def test_missing_cells_stay_visible(folder):
    record = {
        **{"name": "g", "pairs": ["P"], "methods": ["KD", "OFA", "DKD"], "baseline": "KD"},
        "cells": [
            {"pair": "P", "method": "KD", "seed": 1, "run": "KD-1-s", "error": ""},
            {"pair": "P", "method": "OFA", "seed": 1, "run": None, "error": "it broke"},
        ],
    }
    (folder / "grid.json").write_text(json.dumps(record))
    text = build_table(folder).to_markdown()
    assert "| failed | missing |" in text  # OFA was tried, DKD was not
    assert "**90.00 ± n/a (1)**" in text


def test_unreadable_and_foreign_results_are_skipped_by_name(folder, caplog):
    for name, text in (("x", "{"), ("y", "[]")):
        (folder / name).mkdir()
        (folder / name / "result.json").write_text(text)
    assert len(run_frame(folder)) == 10
    assert "x/result.json: not JSON" in caplog.text
    assert "y/result.json: not a kdbench result" in caplog.text


def test_refusals(folder, tmp_path):
    with pytest.raises(KdbenchError, match="did you mean 'best'"):
        build_table(folder, select="bset")
    with pytest.raises(KdbenchError, match="no finished runs with a validation part"):
        build_table(folder, select="selected")
    with pytest.raises(KdbenchError, match="no results folder"):
        build_table(tmp_path / "nothing")
    write(folder / "again", "KD", 1, 50.0)
    with pytest.raises(KdbenchError, match="under several configurations"):
        build_table(folder)


def test_picture(folder, tmp_path):
    plot_table(build_table(folder), tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_detail_columns(tmp_path):
    write_run(tmp_path, method="KD", seed=1, top1=70.0, seconds=(9.0, 1.0, 3.0), name="KD-t-s-s1-0123abcdef")
    write_run(tmp_path, method="DKD", seed=1, top1=70.0)
    frame = run_frame(tmp_path, detail=True).set_index("method")
    row = frame.loc["KD"]
    assert (row.seconds_per_epoch, row.config_hash, row.env_device) == (2.0, "0123abcdef", "cpu")
    assert row.images_per_second == pytest.approx((100 + 100 / 3) / 2)
    assert row.data_share == pytest.approx(0.1)
    assert pd.isna(frame.loc["DKD"].seconds_per_epoch)
    assert list(run_frame(tmp_path).columns) == [*COLUMNS, "folder"]


def test_what_was_left_out_is_counted(folder):
    (folder / "x").mkdir()
    (folder / "x" / "result.json").write_text("{")
    (folder / "y").mkdir()
    (folder / "y" / "config.yaml").write_text("")
    assert (
        "Skipped 1 result file that is unreadable or was not written by kdbench. 1 run has not finished."
        in build_table(folder).to_markdown()
    )
