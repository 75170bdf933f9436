"""Run folders as frames: every column that is used is checked, a row an epoch, and the page that describes both."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from synthetic_runs import write_run

import kdbench
from kdbench.bench.comparison.table import build_table
from kdbench.bench.pictures.cost import _seconds
from kdbench.bench.pictures.curves import curves_of
from kdbench.bench.results.frames import COLUMNS, CURVE, DETAIL, ENVIRONMENT, TIMING, load_curves, run_frame
from kdbench.bench.results.run_files import timing_of
from kdbench.cli.main import main
from kdbench.errors import KdbenchError

FOREIGN = {
    "top1_last": [None, "70", True, -1, 100.5, float("nan"), float("inf"), [1], {}],
    "top5_last": ["99", 101, float("nan")],
    "top1_best": [[], -0.1],
    "top1_selected": ["x", 200],
    "teacher_top1": ["97", float("nan")],
    "seed": [None, True, "1", 1.5, -1, 2**70],
    "method": [None, 5, "", ["KD"], {"a": 1}],
    "teacher": [None, 5],
    "student": [None, 3, ""],
    "dataset": [None, {}, ""],
    "run_id": [None, 7, ""],
    "teacher_sha256": [5],
    "seconds": ["1", -1, float("nan")],
    "epochs": ["2", True],
    "environment": ["linux", [1]],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in FOREIGN.items() for v in values])
def test_foreign_values_are_skipped_by_name_and_counted(tmp_path, caplog, capsys, key, value):
    write_run(tmp_path, method="KD", seed=1, top1=70.0)
    run = write_run(tmp_path, method="DKD", seed=1, top1=71.0, name="bad")
    file = tmp_path / run / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    assert run_frame(tmp_path).method.tolist() == ["KD"]
    assert f"bad/result.json: its {key} is " in caplog.text
    assert main(["table", str(tmp_path)]) == 0
    assert "Skipped 1 result file that is unreadable" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"x"', '{"a": 1}', "\x00"])
def test_foreign_files_are_skipped(tmp_path, text):
    write_run(tmp_path, method="KD", seed=1, top1=70.0)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_text(text)
    assert build_table(tmp_path).skipped == 1


def test_what_older_runs_did_not_record_is_no_reason_to_skip(tmp_path):
    run = write_run(tmp_path, method="KD", seed=1, top1=70.0)
    file = tmp_path / run / "result.json"
    record = json.loads(file.read_text())
    for key in ("student_flops", "teacher_sha256", "environment", "top1_selected"):
        del record[key]
    file.write_text(json.dumps(record))
    assert len(run_frame(tmp_path, detail=True)) == 1
    assert build_table(tmp_path).cells["t -> s", "KD"].n == 1


def test_a_row_an_epoch(tmp_path):
    run = write_run(tmp_path, method="KD", seed=1, top1=70.0, seconds=(9.0, 1.0))
    other = tmp_path / "unfinished"
    other.mkdir()
    line = {
        "epoch": 1,
        "top1": 5.0,
        "top5": 9.0,
        "test_loss": 2.0,
        "lr": 0.1,
        "train": {"ce": 1.0, "kd": 0.5},
        "val_top1": 4.0,
    }
    timing = {"epoch": 1, "seconds": 3.0, "data_seconds": 1.0, "images_per_second": 7.0}
    (other / "metrics.jsonl").write_text(json.dumps(line) + "\n" + '{"epoch": 2, "to')  # being written
    (other / "timing.jsonl").write_text(json.dumps({**timing, "peak_gpu_bytes": 5, "peak_rss_bytes": 6}) + "\n")
    frame = load_curves(tmp_path)
    assert list(frame.columns) == ["run_id", "folder", "epoch", *CURVE, "train_ce", "train_kd", *TIMING]
    mine = frame[frame.run_id == run]
    assert mine.epoch.tolist() == list(range(1, 9))
    assert mine.seconds.tolist()[:2] == [9.0, 1.0]
    assert mine.seconds.isna().sum() == 6
    assert mine.train_kd.isna().all()
    [row] = frame[frame.run_id == "unfinished"].to_dict("records")
    assert (row["top1"], row["val_top1"], row["train_kd"]) == (5.0, 4.0, 0.5)
    assert (row["seconds"], row["images_per_second"], row["peak_gpu_bytes"], row["peak_rss_bytes"]) == (
        3.0,
        7.0,
        5.0,
        6.0,
    )


@pytest.mark.parametrize("text", ["[]\n", "{\n", '{"epoch": "x"}\n', '{"epoch": 1, "top1": []}\n', '{"top1": 1}\n'])
def test_curves_of_foreign_files_are_skipped_by_name(tmp_path, caplog, text):
    write_run(tmp_path, method="KD", seed=1, top1=70.0, seconds=(1.0,))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metrics.jsonl").write_text(text)
    frame = kdbench.load_curves(tmp_path)
    assert len(frame) == 8
    assert frame.attrs["skipped"] == [str(tmp_path / "bad" / "metrics.jsonl")]
    assert "bad/metrics.jsonl: it cannot be read" in caplog.text


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_a_last_line_that_was_not_finished_costs_that_line_alone(tmp_path, name):
    """A run that was killed while it wrote keeps its figures, in every reader."""
    run = tmp_path / write_run(tmp_path, method="KD", seed=1, top1=70.0, seconds=(9.0, 5.0, 7.0))
    whole = (run / name).read_text()
    (run / name).write_text(whole + '{"epoch": 9, "seco')
    assert run_frame(tmp_path, detail=True).iloc[0].seconds_per_epoch == 6.0
    assert timing_of(run)["seconds_per_epoch"] == 6.0
    frame = load_curves(tmp_path)
    assert frame.attrs["skipped"] == []
    assert list(frame.epoch) == list(range(1, 9))
    assert len(curves_of(tmp_path)[str(run)]) == 8


def test_no_folder_and_no_runs(tmp_path):
    with pytest.raises(KdbenchError, match="no results folder"):
        load_curves(tmp_path / "nowhere")
    assert load_curves(tmp_path).empty


def test_peak_memory_of_both_kinds(tmp_path):
    run = write_run(tmp_path, method="KD", seed=1, top1=70.0, seconds=(1.0, 2.0))
    file = tmp_path / run / "timing.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0] |= {"peak_rss_bytes": 100}
    lines[1] |= {"peak_rss_bytes": 300, "peak_gpu_bytes": 50}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = run_frame(tmp_path, detail=True).iloc[0]
    assert (row.peak_rss_bytes, row.peak_gpu_bytes) == (300.0, 50.0)


def test_the_page_describes_every_column():
    text = Path("docs/results.md").read_text(encoding="utf-8")
    first, second = text.split("## A row an epoch")
    environment = [f"env_{key}" for key in ENVIRONMENT]
    for part, columns in (
        (first, [*COLUMNS, "folder", *DETAIL, "config_hash", *environment]),
        (second, [*CURVE, *TIMING]),
    ):
        assert [c for c in columns if f"`{c}`" not in part] == []


def test_epochs_that_fill_a_cache_are_no_cost_of_the_method(tmp_path):
    run = tmp_path / write_run(tmp_path, method="KD", seed=1, top1=70.0, seconds=(9.0, 2.0))
    rows = [
        {"epoch": n, "seconds": s, "data_seconds": 1.0, "images_per_second": 8.0} for n, s in enumerate((9, 4, 6), 1)
    ]

    def write(*uses):
        lines = [{**row, **({"cache": use} if use else {})} for row, use in zip(rows, uses)]
        (run / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    write("fills", "fills", "reads")
    assert timing_of(run)["seconds_per_epoch"] == 6.0
    assert timing_of(run, filling=True)["seconds_per_epoch"] == 5.0
    write("fills", "fills", "fills")
    assert timing_of(run) == {}
    assert timing_of(run, filling=True)["seconds_per_epoch"] == 5.0
    assert math.isnan(_seconds(str(run), 3.0))  # not the run's seconds divided by its epochs, either
    write("", "", "reads")
    assert timing_of(run)["seconds_per_epoch"] == 5.0


def test_seconds_of_several_runs_are_no_runs_own(tmp_path):
    run = tmp_path / write_run(tmp_path, method="KD", seed=1, top1=70.0, seconds=(9.0, 2.0))
    rows = [
        {"epoch": n, "seconds": s, "data_seconds": 1.0, "images_per_second": 64 / s, "peak_gpu_bytes": 100}
        for n, s in ((1, 9.0), (2, 4.0), (3, 6.0), (4, 30.0))
    ]

    def write(*together):
        lines = [{**row, **({"together": n} if n > 1 else {})} for row, n in zip(rows, together)]
        (run / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    write(3, 1, 1, 2)
    assert timing_of(run) == {
        "seconds_per_epoch": 5.0,
        "images_per_second": pytest.approx((16 + 64 / 6) / 2),
        "data_share": pytest.approx(0.2),
        "peak_gpu_bytes": 100.0,
    }
    write(3, 3, 3, 3)
    assert timing_of(run) == {}
    frame = run_frame(tmp_path, detail=True)
    assert frame[["seconds_per_epoch", "images_per_second", "peak_gpu_bytes"]].isna().all(axis=None)
    assert load_curves(tmp_path).together.dropna().tolist() == [3.0] * 4
