"""What ``kdbench.<name>`` offers: every name is there, and what it gives looks well in a notebook."""

from __future__ import annotations

import re
import subprocess
import sys

import pandas as pd
import pytest
from synthetic_runs import write_run

import kdbench
from kdbench.engine.result import RunResult
from kdbench.engine.run_folder import RunFolder
from kdbench.errors import KdbenchError


@pytest.mark.parametrize("name", kdbench.__all__)
def test_every_public_name_is_there_and_documented(name):
    found = getattr(kdbench, name)
    assert name == "__version__" or found.__doc__


def test_tables_statistics_and_plots_without_the_command(tmp_path):
    for method, base in (("KD", 70.0), ("DKD", 72.0), ("OFA", 71.0)):
        for pair, shift in (("small_cnn", 0.0), ("small_vit", 5.0)):
            for seed in (1, 2, 3):
                write_run(tmp_path, method=method, seed=seed, top1=base + shift + seed, student=pair)
    table = kdbench.build_table(tmp_path, baseline="KD")
    assert "DKD" in kdbench.render_table(table, "latex")
    assert kdbench.scores(table).DKD.tolist() == [74.0, 79.0]
    assert [round(s.mean, 9) for (_, m), s in kdbench.differences(table).items() if m == "DKD"] == [2.0, 2.0]
    assert kdbench.ranks(table).ranks == {"DKD": 1.0, "OFA": 2.0, "KD": 3.0}
    assert kdbench.friedman(kdbench.scores(table)) == kdbench.ranks(table)
    assert {t.first: t.wins for t in kdbench.pair_tests(kdbench.scores(table), baseline="KD")} == {"DKD": 2, "OFA": 2}
    assert kdbench.summarise([1.0, 3.0]).mean == 2.0
    for plot in (kdbench.plot_table, kdbench.plot_differences):
        plot(table, tmp_path / "a.svg")
    kdbench.plot_ranks(kdbench.ranks(table), tmp_path / "ranks.png")
    assert kdbench.build_report(tmp_path).lower().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "call",
    [
        lambda: kdbench.render_table("runs/g"),
        lambda: kdbench.scores("runs/g"),
        lambda: kdbench.ranks(None),
        lambda: kdbench.differences("runs/g"),
        lambda: kdbench.plot_table("runs/g", "p.png"),
        lambda: kdbench.plot_cost("runs/g", "runs/g", "p.png"),
        lambda: kdbench.plot_curves("runs/g", "runs/g", "p.png"),
        lambda: kdbench.plot_differences("runs/g", "p.png"),
    ],
)
def test_what_is_no_table_is_one_line(call):
    with pytest.raises(KdbenchError, match=r"expects a table, kdbench.build_table\(folder\), got"):
        call()


@pytest.mark.parametrize("scores", ["runs/g", None, pd.DataFrame({"KD": ["a", "b"]})])
def test_what_are_no_scores_is_one_line(scores):
    for call in (kdbench.friedman, kdbench.pair_tests):
        with pytest.raises(KdbenchError, match=r"expects a frame of scores, kdbench.scores\(table\), got"):
            call(scores)


def test_a_configuration_in_a_notebook():
    cfg = kdbench.load_config("configs/digits/student.yaml", {"DISTILLER.TYPE": "KD", "EXPERIMENT.NAME": "<b>x</b>"})
    page = cfg._repr_html_()
    assert "<b>&#x27;&lt;b&gt;x&lt;/b&gt;&#x27;</b>" in page  # what differs is bold, and text is text
    assert "<b>TYPE</b>" in page
    assert "<span>AUG_SEED</span>" in page
    assert len(re.findall("<summary>", page)) == len(cfg)
    assert cfg.clone().SOLVER._repr_html_().count("<tr>") >= len(cfg.SOLVER)


def test_a_result_in_a_notebook(tmp_path):
    run = tmp_path / write_run(tmp_path, method="KD", seed=1, top1=70.25)
    page = RunResult.read(RunFolder(run))._repr_html_()
    assert "70.25 %" in page
    assert page.count("<tr>") >= 8
    assert "None" not in page


def test_importing_kdbench_costs_nothing():
    code = "import sys, kdbench; dir(kdbench); assert not {'torch', 'numpy', 'pandas', 'yacs'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
