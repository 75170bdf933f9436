"""Tables of the paper: published figures cell by cell, own figures and differences to the digit."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from importlib import resources

import pandas as pd
import pytest
from synthetic_runs import write_run

from kdbench.bench.paper.layouts import layout
from kdbench.bench.paper.published import Key, published
from kdbench.bench.paper.render import render, to_frame
from kdbench.bench.paper.table import build_paper_table
from kdbench.bench.results.display_names import paper_method, paper_network
from kdbench.cli.main import main
from kdbench.config.load import load_config
from kdbench.errors import KdbenchError

CIFAR = {"dataset": "cifar100", "student": "ResNet18"}
TAUGHT = {**CIFAR, "teacher": "Swin-T", "teacher_top1": 89.0}


def rows_of_csv():
    text = resources.files("kdbench.bench.paper").joinpath("published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def cell(table, method, metric="top1", teacher="Swin-T", student="ResNet18", dataset="CIFAR-100"):
    found = [c for c in table.cells() if c.key and c.key.method == method and c.key.metric == metric]
    return next(c for c in found if (c.key.dataset, c.key.teacher, c.key.student) == (dataset, teacher, student))


def test_every_published_figure_stands_in_exactly_its_table():
    rows = rows_of_csv()
    seen = 0
    for number in range(1, 8):
        table = build_paper_table(number, source="reported")
        cells = {c.key: c for c in table.cells() if c.key is not None}
        mine = [r for r in rows if int(r["table"]) == number]
        for row in mine:
            key = Key(number, row["dataset"], row["teacher"], row["student"], row["method"], row["metric"])
            text = cells[key].parts("reported")[0]
            assert text.split(" ")[0] == (row["value"] or "-"), key
            assert not row["note"] or row["note"] in [table.notes[m - 1] for m in cells[key].marks]
        seen += len(mine)
        assert {k for k in cells if k.table == number} == {k for k in published() if k.table == number}
    assert seen == len(rows) == 768


@pytest.mark.parametrize(
    ("number", "gains"),
    [
        (1, ["+4.04", "+4.07", "+3.74", "+7.51", "+8.04", "+7.76"]),  # the third is printed +4.24
        (2, ["+0.77", "+0.77", "+0.51", "+0.67", "+0.40"]),
        (3, ["+1.52", "+0.76", "+2.74", "+1.54"]),
    ],
)
def test_gains_are_recomputed(number, gains):
    table = build_paper_table(number, source="reported")
    assert [c.parts("reported")[0] for c in table.cells() if c.key is None] == gains
    if number == 1:
        assert "[1] the paper prints a gain of +4.24 over KD; its own figures give +3.74" in render(table)


def test_notes_on_the_print():
    assert "12 methods and 11 figures" in render(build_paper_table(2, source="reported"))
    assert "RKKD is named in the paper without definition" in render(build_paper_table(4, source="reported"))
    assert "82.32 (+3.58)" in render(build_paper_table(7, source="reported"))
    notes = {k: f for k, f in published().items() if k.table in (2, 5) and f.note}
    hcd = {(k.teacher, k.student): f.note for k, f in notes.items() if k.table == 2 and k.method == "HCD"}
    assert "below RSD (72.13)" in hcd["Swin-T", "ResNet18"]
    assert "below OFA (71.39) and RSD (72.18)" in hcd["DeiT-T", "MobileNetV2"]
    assert sum("below" in note for note in hcd.values()) == 2
    figure = notes[Key(5, "CUB-200-2011", "DINOv2 (ViT-L)", "VGG8", "LDRLD", "top5")]
    assert (figure.value, "MobileNetV2" in figure.note) == (85.89, True)


def test_layouts_are_those_of_the_print():
    first = layout(1).panels[0]
    assert [name for _, name in first.columns][:5] == ["Teacher", "Student", "T:Acc", "S:Acc", "FitNet"]
    assert [name for group, name in first.columns if group == "Logit-based"][-3:] == ["LDRLD", "HCD", "Δ"]
    assert [len(p.rows) for p in layout(3).panels] == [2, 2]
    assert len(layout(4).panels[0].columns) == 2 + 16


@pytest.fixture
def folder(tmp_path):
    for seed, (kd, hcd) in enumerate([(78.0, 82.0), (79.0, 83.5), (80.0, 83.0)], 1):
        write_run(tmp_path, method="KD", seed=seed, top1=kd, **TAUGHT)
        write_run(tmp_path, method="HCD", seed=seed, top1=hcd, seconds=(99.0, 10.0, 12.0), **TAUGHT)
    write_run(tmp_path, method="Vanilla", seed=1, top1=74.5, **CIFAR)
    return tmp_path


def test_own_figures_and_differences_to_the_digit(folder):
    table = build_paper_table(1, folder)
    kd = cell(table, "KD")
    assert kd.parts("both") == ("78.74", "79.00 ± 1.00 (3)", "+0.26")
    assert cell(table, "HCD").parts("both") == ("82.78", "82.83 ± 0.76 (3)", "+0.05")
    assert cell(table, "Scratch").parts("both") == ("74.01", "74.50 ± n/a (1)", "+0.49")
    assert cell(table, "Teacher").parts("both") == ("89.26", "89.00 ± n/a (1)", "-0.26")
    assert cell(table, "OFA").parts("both") == ("80.54", "missing", "")
    gain = next(c for c in table.cells() if c.key is None)
    assert gain.parts("both") == ("+4.04", "+3.83", "-0.21")  # paired: (4 + 4.5 + 3) / 3
    assert cell(table, "KD").parts("ours") == ("79.00 ± 1.00 (3)",)
    assert cell(table, "OFA").parts("delta") == ("missing",)
    text = render(table)
    assert r"78.74 \| 79.00 ± 1.00 (3) \| +0.26" in text


def test_the_default_number_of_sub_logits_and_seconds(folder):
    table = build_paper_table(6, folder)
    assert cell(table, "HCD(n=4)").parts("ours") == ("82.83 ± 0.76 (3)",)
    assert cell(table, "HCD(n=4)", "seconds_per_epoch").ours.mean == 11.0  # the first epoch warms up
    assert cell(table, "HCD(n=2)").ours is None


def test_labels_of_a_grid_name_the_cells(folder):
    run = write_run(folder, method="HCD", seed=1, top1=81.9, name="two", **TAUGHT)
    record = {"name": "g", "pairs": ["p"], "methods": ["m"], "baseline": "KD"}
    cells = [{"pair": "p", "method": "HCD(n=2)", "seed": 1, "run": run, "error": ""}]
    (folder / "grid.json").write_text(json.dumps({**record, "cells": cells}))
    table = build_paper_table(6, folder)
    assert cell(table, "HCD(n=2)").ours.mean == 81.9
    assert cell(table, "HCD(n=4)").ours.n == 3


def test_two_selection_rules(folder, capsys):
    assert cell(build_paper_table(1, folder, select="best"), "KD").ours.mean == 80.0
    assert main(["table", str(folder), "--paper", "1", "--select", "last", "--select", "best"]) == 2
    assert "never mixed" in capsys.readouterr().err
    assert main(["table", str(folder), "--select", "last,best"]) == 2
    assert "never mixed" in capsys.readouterr().err
    for source in ("reported", "ours"):
        assert main(["table", str(folder), "--paper", "1", "--source", source, "--select", "bset"]) == 2
        assert "'bset' is none of last, best, selected (did you mean 'best'?)" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["reported", "ours", "both", "delta"])
@pytest.mark.parametrize("number", range(1, 8))
def test_csv_round_trips(folder, number, source):
    table = build_paper_table(number, folder, source=source)
    frame = to_frame(table)
    again = pd.read_csv(io.StringIO(render(table, "csv")), keep_default_na=True)
    assert len(again) == len(frame)
    text = frame.select_dtypes(["object", "string"]).columns
    frame[text] = frame[text].replace("", pd.NA)
    for column in frame:
        left, right = frame[column], again[column]
        assert (left.isna() == right.isna()).all(), column
        assert (left.dropna() == right.dropna()).all(), column
    if source == "reported":
        assert again.ours_mean.isna().all()
    if source == "ours":
        assert again.reported.isna().all()


@pytest.mark.parametrize("number", range(1, 8))
def test_latex(folder, number):
    text = render(build_paper_table(number, folder), "latex")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == len(layout(number).panels)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    for block in text.split(r"\begin{tabular}")[1:]:
        spec = block[1 : block.index("}")]
        body = block.split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert lines
        assert all(line.replace(r"\&", "").count("&") == len(spec) - 1 for line in lines)
    assert not set("±Δ✓") & set(text)


@pytest.mark.parametrize("number", range(1, 8))
def test_latex_compiles(folder, number, tmp_path):
    engine = next((name for name in ("pdflatex", "tectonic", "lualatex", "xelatex") if shutil.which(name)), None)
    if engine is None:
        pytest.skip("no TeX engine (pdflatex, tectonic, lualatex, xelatex) on this machine")
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx,amssymb}\\begin{document}\n"
    text = render(build_paper_table(number, folder), "latex")
    (tmp_path / "t.tex").write_text(head + text + "\\end{document}\n")
    options = [] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "t.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_names_of_networks_and_methods():
    assert paper_network("timm:swin_tiny_patch4_window7_224.ms_in1k") == "Swin-T"
    assert paper_network("vgg8") == paper_network("VGG8") == "VGG8"
    assert paper_network("ShuffleV2") == "ShuffleNetV2"
    assert paper_network("somebody's") == "somebody's"
    assert (paper_method("REVIEWKD"), paper_method("NONE"), paper_method("HCD")) == ("ReviewKD", "Scratch", "HCD")


def test_refusals(folder, tmp_path, capsys):
    with pytest.raises(KdbenchError, match="tables 1 to 7"):
        build_paper_table(8, folder)
    with pytest.raises(KdbenchError, match="did you mean 'reported'"):
        build_paper_table(1, folder, source="reportd")
    with pytest.raises(KdbenchError, match="needs a results folder"):
        build_paper_table(1, source="ours")
    with pytest.raises(KdbenchError, match="is none of md, csv, latex"):
        render(build_paper_table(1, source="reported"), "html")
    write_run(folder / "again", method="KD", seed=1, top1=50.0, name="other", **TAUGHT)
    with pytest.raises(KdbenchError, match="under several configurations"):
        build_paper_table(1, folder)
    for words in (["--paper", "x"], [], ["--paper", "1", "--source", "ours"]):
        assert main(["table", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_damaged_files_are_counted(folder, caplog):
    for name, text in (("x", '{"top1_last": 1'), ("y", "[]"), ("z", '{"top1_last": "a", "method": "KD", "seed": 1}')):
        (folder / name).mkdir()
        (folder / name / "result.json").write_text(text)
    (folder / "half").mkdir()
    (folder / "half" / "config.yaml").write_text("DISTILLER: {}")
    (folder / "grid.json").write_text("{")
    text = render(build_paper_table(1, folder))
    assert "Skipped 3 result files that are unreadable or were not written by kdbench." in text
    assert "1 run has not finished." in text
    assert "x/result.json: not JSON" in caplog.text
    assert "grid.json: not a grid's record" in caplog.text


def test_all_tables_from_the_command_line(tmp_path, capsys):
    assert main(["table", "--paper", "all", "--source", "reported", "--out", str(tmp_path / "o")]) == 0
    assert len(list((tmp_path / "o").iterdir())) == 21
    assert "82.78" in capsys.readouterr().out


def test_the_teachers_top5_is_its_own_runs(tmp_path):
    place = {"dataset": "imagenet", "teacher": "ResNet34", "student": "ResNet18", "teacher_top1": 73.3}
    cfg = load_config(overrides={"TEACHER.WEIGHTS": "somewhere/made/student.safetensors"})
    write_run(tmp_path, method="KD", seed=1, top1=71.0, cfg=cfg, **place)
    assert cell(build_paper_table(3, tmp_path), "Teacher", "top5", "ResNet34", dataset="ImageNet-1K").parts("ours") == (
        "not recorded",
    )
    write_run(tmp_path, method="Vanilla", seed=1, top1=73.3, name="made", dataset="imagenet", student="ResNet34")
    teacher = cell(build_paper_table(3, tmp_path), "Teacher", "top5", "ResNet34", dataset="ImageNet-1K")
    assert teacher.ours.mean == pytest.approx(73.3 / 2 + 50)


def test_what_was_not_recorded_and_what_failed_is_said(tmp_path):
    place = {"dataset": "imagenet", "teacher": "ResNet34", "student": "ResNet18"}
    for seed, lines in (
        (1, [{"epoch": 1, "val_top1": 60.0, "top5": 81.0}, {"epoch": 2, "val_top1": 59.0, "top5": 82.0}]),
        (2, []),
    ):
        run = write_run(tmp_path, method="KD", seed=seed, top1=71.0, top1_selected=70.0, **place)
        (tmp_path / run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = write_run(tmp_path, method="DKD", seed=1, top1=71.0, top1_selected=70.0, **place)
    record = {"name": "g", "pairs": ["p"], "methods": ["m"], "baseline": "KD"}
    failed = {"pair": "p", "method": "RLD", "seed": 1, "run": None, "error": "it broke", "dataset": "imagenet"}
    cells = [{**failed, "network": "ResNet34", "student": "ResNet18"}]
    (tmp_path / "grid.json").write_text(json.dumps({**record, "cells": cells}))
    table = build_paper_table(3, tmp_path, select="selected")
    found = {
        m: cell(table, m, "top5", "ResNet34", dataset="ImageNet-1K").parts("ours")[0]
        for m in ("KD", "DKD", "RLD", "CRD")
    }
    assert found == {"KD": "81.00 ± n/a (1)", "DKD": "not recorded", "RLD": "failed", "CRD": "missing"}


def test_all_tables_are_one_frame(capsys):
    assert main(["table", "--paper", "all", "--source", "reported", "--format", "csv"]) == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert sorted(set(frame.table)) == list(range(1, 8))
    assert main(["table", "--paper", "all", "--source", "reported", "--format", "cvs"]) == 2


def test_a_grid_is_found_by_its_name(folder, capsys):
    assert main(["table", str(folder), "--paper", "1", "--grid", "table1"]) == 0
    assert "No declared recipes" not in capsys.readouterr().out
    assert main(["table", str(folder), "--paper", "1", "--grid", "tabel1"]) == 2
    assert "did you mean 'table1'" in capsys.readouterr().err


def test_every_name_of_a_network_and_sdd_reach_their_column():
    assert paper_network("SigLIP2-ViT-B") == "SigLIP2 (ViT-B)"
    assert paper_network("DINOv2-ViT-S") == "DINOv2 (ViT-S)"
    assert paper_network("timm:vit_large_patch14_dinov2.lvd142m") == "DINOv2 (ViT-L)"
    assert paper_method("SDD_DKD") == "SDD"
