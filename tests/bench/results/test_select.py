"""What tables say of runs that a validation part has decided over."""

from __future__ import annotations

import pytest
from synthetic_runs import write_run

from kdbench.bench.results.frames import run_frame
from kdbench.bench.results.select import selection_remarks

KEPT = "1 run left the student of the best epoch by validation accuracy (SOLVER.KEEP), which --select selected shows."


@pytest.mark.parametrize(
    ("runs", "select", "said"),
    [
        ([{}], "last", []),  # older than the fields
        ([{"stopped": None, "kept_epoch": 2}], "last", []),
        (
            [{"stopped": "why", "epochs": 5, "kept_epoch": 5}],
            "last",
            ["1 run stopped early, after epoch 5 (SOLVER.PATIENCE); that epoch is the last one."],
        ),
        (
            [{"stopped": "why", "epochs": 5, "kept_epoch": 5}, {"stopped": "why", "epochs": 9, "kept_epoch": 9}, {}],
            "best",
            ["2 runs stopped early, after epochs 5 to 9 (SOLVER.PATIENCE); that epoch is the last one."],
        ),
        ([{"kept_epoch": 1}], "last", [KEPT]),
        ([{"kept_epoch": 1}], "best", [KEPT]),
        ([{"kept_epoch": 1}], "selected", []),
    ],
)
def test_remarks(tmp_path, runs, select, said):
    for seed, extra in enumerate(runs):
        write_run(tmp_path, method="KD", seed=seed, top1=50.0, **extra)
    assert selection_remarks(run_frame(tmp_path), select) == said
