from __future__ import annotations

import torch

from kdbench.bench.speed import data


def test_every_pipeline_is_measured(monkeypatch):
    monkeypatch.setattr(data, "tune_malloc", lambda: True)
    threads = torch.get_num_threads()
    rows = data.run(rounds=1, workers=1, scale=0.01)
    assert [row["asked for"] for row in rows] == [15.0, 5.0, 3.0, 1.5]
    assert all(row["images/s"] > 0 and row["usual images/s"] > 0 and row["ratio"] > 0 for row in rows)
    assert torch.get_num_threads() == threads
