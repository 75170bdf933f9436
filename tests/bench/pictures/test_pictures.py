"""Pictures are written, and what they show is right: frontier, curves, what can be drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from synthetic_runs import write_run

from kdbench.bench.comparison.table import build_table
from kdbench.bench.paper.table import build_paper_table
from kdbench.bench.pictures.accuracy import plot_table
from kdbench.bench.pictures.cost import costs, frontier, plot_cost
from kdbench.bench.pictures.curves import curves_of, mean_curve
from kdbench.bench.pictures.published_and_own import plot_reported
from kdbench.cli.main import main


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    for number, student in enumerate("pq"):
        for place, method in enumerate(("KD", "DKD", "DIST", "HCD")):
            for seed in (1, 2):
                top1 = 70 + place + number + float(rng.normal(0, 0.3))
                write_run(
                    tmp_path,
                    method=method,
                    seed=seed,
                    top1=top1,
                    student=student,
                    seconds=(9.0, 5.0 - place, 7.0 - place),
                )
    return tmp_path


def is_png(file):
    return file.read_bytes().startswith(b"\x89PNG")


def test_every_picture(folder, tmp_path, capsys):
    assert main(["table", str(folder), "--plots", str(tmp_path / "o")]) == 0
    files = sorted((tmp_path / "o").iterdir())
    assert [f.name for f in files] == [
        "accuracy.png",
        "cost.png",
        "curves.png",
        "differences.png",
        "losses.png",
        "ranks.png",
    ]
    assert all(is_png(f) for f in files)


def test_cost_is_the_mean_over_epochs_but_the_first(folder):
    frame = costs(folder)
    assert dict(zip(frame.label, frame.seconds))["KD"] == 6.0


def test_frontier():
    points = {"a": (1.0, 70.0), "b": (2.0, 69.0), "c": (2.0, 72.0), "d": (3.0, 72.0), "e": (4.0, 75.0)}
    assert frontier(points) == ["a", "c", "e"]


def test_curves(folder, tmp_path, caplog):
    assert mean_curve([{1: 10.0, 2: 20.0}, {1: 20.0}]) == ([1], [15.0])
    assert mean_curve([]) == ([], [])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metrics.jsonl").write_text("{\n")
    found = curves_of(tmp_path)
    assert set(found) == {str(file.parent) for file in tmp_path.rglob("result.json")}
    assert {tuple(curve) for curve in found.values()} == {tuple(range(1, 9))}
    assert "metrics.jsonl: it cannot be read" in caplog.text


def test_runs_without_timing_and_metrics(tmp_path):
    write_run(tmp_path / "r", method="KD", seed=1, top1=70.0)
    assert costs(tmp_path / "r").seconds.tolist() == [30.0]
    assert main(["table", str(tmp_path / "r"), "--plots", str(tmp_path / "o")]) == 0
    assert not (tmp_path / "o" / "ranks.png").exists()


def test_runs_that_a_gpu_trained_together_have_no_cost_of_their_own(tmp_path):
    for method, together in (("KD", 2), ("DKD", 1), ("HCD", 2)):
        run = tmp_path / "r" / write_run(tmp_path / "r", method=method, seed=1, top1=70.0, seconds=(9.0, 5.0))
        lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
        (run / "timing.jsonl").write_text("".join(json.dumps({**line, "together": together}) + "\n" for line in lines))
    frame = costs(tmp_path / "r")
    assert (frame.label.tolist(), frame.seconds.tolist()) == (["DKD"], [5.0])
    (tmp_path / "r" / run.name / "timing.jsonl").unlink()
    assert costs(tmp_path / "r").seconds.tolist() == [5.0, 30.0]  # of what is not recorded, the run's seconds by epoch
    for file in (tmp_path / "r").glob("*-DKD-*/timing.jsonl"):
        file.write_text('{"epoch": 1, "seconds": 1.0, "data_seconds": 0.1, "images_per_second": 9.0, "together": 3}\n')
    assert main(["table", str(tmp_path / "r"), "--plots", str(tmp_path / "o")]) == 0
    assert (tmp_path / "o" / "cost.png").exists()


def test_statistics_without_ranks_say_why_and_draw_nothing(tmp_path, capsys):
    write_run(tmp_path / "r", method="KD", seed=1, top1=70.0)
    assert main(["table", str(tmp_path / "r"), "--stats", "--plots", str(tmp_path / "o")]) == 0
    text = capsys.readouterr().out
    assert "70.00" in text
    assert "no diagram of ranks: " in text
    assert not (tmp_path / "o").exists()


def test_published_against_own(tmp_path):
    assert not plot_reported([build_paper_table(1, source="reported")], tmp_path / "x.png")
    write_run(tmp_path / "r", method="KD", seed=1, top1=78.0, dataset="cifar100", teacher="Swin-T", student="ResNet18")
    assert build_table(tmp_path / "r").methods == ["KD"]
    assert main(["table", str(tmp_path / "r"), "--paper", "1", "--plots", str(tmp_path)]) == 0
    assert is_png(tmp_path / "reported_and_ours.png")


def drawn(monkeypatch):
    """The figures that are saved, as they were drawn."""
    figures = []
    for module in ("accuracy", "published_and_own"):
        monkeypatch.setattr(f"kdbench.bench.pictures.{module}.save", lambda figure, path: figures.append(figure))
    return figures


def test_bars_are_the_t_intervals_of_the_statistics(tmp_path, monkeypatch):
    for seed, top1 in enumerate((70.0, 71.0, 72.0), 1):
        write_run(tmp_path, method="KD", seed=seed, top1=top1)
    write_run(tmp_path, method="DKD", seed=1, top1=73.0)
    figures = drawn(monkeypatch)
    plot_table(build_table(tmp_path), tmp_path / "x.png")
    [axis] = [a for a in figures[0].axes if a.get_visible()]
    bars = [path for collection in axis.collections for path in collection.get_segments()]
    assert len(bars) == 1  # a single seed has no interval
    assert bars[0][:, 0].tolist() == pytest.approx([71 - 2.4841377, 71 + 2.4841377])
    assert "95% t interval" in figures[0].get_supxlabel()


def test_every_method_of_a_large_grid_is_in_the_legend_and_the_legend_in_the_picture(tmp_path, monkeypatch):
    for number in range(29):
        write_run(tmp_path, method=f"A long name {number}", seed=1, top1=70.0 + number, seconds=(9.0, 5.0))
    table, figures = build_table(tmp_path), []
    monkeypatch.setattr("kdbench.bench.pictures.cost.save", lambda figure, path: figures.append(figure))
    plot_cost(tmp_path, table, tmp_path / "x.png")
    [figure] = figures
    figure.canvas.draw()
    [legend], [axis] = figure.legends, figure.axes
    assert len(legend.get_texts()) == 29
    box, whole = legend.get_window_extent(), figure.bbox
    assert 0 <= box.x0 < box.x1 <= whole.x1
    assert 0 <= box.y0 < box.y1 <= axis.get_window_extent().y0
    assert axis.get_window_extent().height > 200  # of 340 dots: the panel keeps its size


def test_teachers_do_not_stretch_the_scatter(tmp_path, monkeypatch):
    place = {"dataset": "cifar100", "teacher": "Swin-T", "student": "ResNet18", "teacher_top1": 5.0}
    write_run(tmp_path / "r", method="KD", seed=1, top1=78.0, **place)
    figures = drawn(monkeypatch)
    table = build_paper_table(1, tmp_path / "r")
    assert next(c for c in table.cells() if c.key.method == "Teacher").ours.mean == 5.0
    assert plot_reported([table], tmp_path / "x.png")
    assert figures[0].axes[0].get_xlim()[0] > 70
