"""Run folders that were never trained: a result, and where asked a configuration and timings."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from kdbench.config.load import to_dict


def write_run(folder: Path, *, method: str, seed: int, top1: float, cfg=None, seconds=(), name="", **extra) -> str:
    """Write one; returns its run id."""
    record = {
        "method": method,
        "teacher": "" if method == "Vanilla" else "t",
        "student": "s",
        "dataset": "d",
        "seed": seed,
    }
    record |= {
        "top1_last": top1,
        "top5_last": top1 / 2 + 50,
        "top1_best": top1 + 1,
        "top5_best": top1 / 2 + 51,
        "best_epoch": 1,
    }
    record |= {
        "epochs": 2,
        "top1_selected": None,
        "teacher_top1": None if method == "Vanilla" else 97.0,
        "student_params": 1000,
        "student_flops": 2000,
    }
    record |= {"extra_params": 10, "seconds": 60.0, "teacher_sha256": "" if method == "Vanilla" else "abc", **extra}
    run_id = (
        name
        or "-".join(str(record[k]).replace("/", "_") for k in ("dataset", "method", "teacher", "student")) + f"-s{seed}"
    )
    record |= {"run_id": run_id, "data_fingerprint": "f", "environment": {"torch": "2", "device": "cpu"}}
    run = folder / run_id
    run.mkdir(parents=True)
    if cfg is not None:
        (run / "config.yaml").write_text(yaml.safe_dump(to_dict(cfg), sort_keys=False))
    if seconds:
        lines = [
            {"epoch": e, "seconds": s, "data_seconds": s / 10, "images_per_second": 100 / s}
            for e, s in enumerate(seconds, 1)
        ]
        (run / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        curve = [
            {"epoch": e, "top1": top1 - 10 / e, "top5": 90.0, "test_loss": 1 / e, "lr": 0.1, "train": {"ce": 1 / e}}
            for e in range(1, 9)
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))
    (run / "result.json").write_text(json.dumps(record))
    return run_id
