"""Five thousand runs: all tables, status, and what handing out a run costs."""

from __future__ import annotations

import json
import sys
import time

import pytest
from child_python import run_python
from synthetic_runs import write_run

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.grids.lock import STATE_DIR
from kdbench.bench.paper.published import published
from kdbench.bench.running.pools.local_pool import LocalPool

RUNS = 5000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    cfg = load_grid("configs/grids/quickstart.yaml", seeds=1).cells[1].cfg
    kinds = {"CIFAR-100": "cifar100", "ImageNet-1K": "imagenet", "CUB-200-2011": "cub200", "FGVC-Aircraft": "aircraft"}
    places = {
        (k.dataset, k.teacher, k.student, k.method)
        for k in published()
        if k.method not in ("Teacher",) and "(" not in k.method
    }
    done, seed, cells = 0, 0, []
    (root / STATE_DIR).mkdir()
    while done < RUNS:
        seed += 1
        for dataset, teacher, student, method in sorted(places):
            alone = method == "Scratch"
            if done == RUNS or (alone and (root / f"{dataset}-{student}-{seed}").exists()):
                continue
            run_cfg = cfg.clone()
            run_cfg.defrost()
            run_cfg.DATASET.TYPE, run_cfg.DISTILLER.TEACHER, run_cfg.DISTILLER.STUDENT = (
                kinds[dataset],
                "" if alone else teacher,
                student,
            )
            run_cfg.EXPERIMENT.SEED = seed
            run = write_run(
                root,
                method="Vanilla" if alone else method,
                seed=seed,
                top1=70.0,
                cfg=run_cfg,
                dataset=kinds[dataset],
                teacher="" if alone else teacher,
                student=student,
                name=f"{dataset}-{student}-{seed}" if alone else f"run{done}",
                seconds=tuple([10.0] * 30),
            )
            (root / STATE_DIR / f"{done:016x}.json").write_text(json.dumps({"status": "done", "run": run}))
            cells.append(
                {
                    "pair": f"{teacher} -> {student}",
                    "method": method,
                    "seed": seed,
                    "key": f"{done:016x}",
                    "run": None,
                    "error": "",
                }
            )
            done += 1
    record = {
        "name": "many",
        "pairs": sorted({c["pair"] for c in cells}),
        "methods": ["KD"],
        "baseline": "KD",
        "cells": cells,
        "teachers": {},
    }
    (root / "grid.json").write_text(json.dumps(record))
    return root


#: a process counts the peak of the one that it was started from as its own: this small one stands between it and the tests
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def timed(*words):
    """Seconds, peak memory in MB of that one process, and what it printed."""
    started = time.perf_counter()
    printed = run_python(MEASURE, sys.executable, "-m", "kdbench", *map(str, words))
    seconds = time.perf_counter() - started
    text, _, peak = printed.rstrip().rpartition("\n")
    return seconds, int(peak) / 1024, text


@pytest.mark.slow
def test_all_tables(folder):
    seconds, peak, text = timed("table", folder, "--paper", "all", "--quiet")
    print(f"seven tables of {RUNS} runs: {seconds:.1f} s, {peak:.0f} MB")
    assert "Table 7" in text
    assert "70.00" in text
    assert seconds < 20
    assert peak < 1024


@pytest.mark.slow
def test_status(folder):
    seconds, _, text = timed("grid", folder, "--status")
    print(f"status of {RUNS} cells: {seconds:.2f} s")
    assert "5000" in text
    assert seconds < 2


@pytest.mark.slow
def test_handing_out_a_run(tmp_path):
    from kdbench.bench.grids.lock import held
    from kdbench.bench.grids.state import write_state

    started = time.perf_counter()
    for number in range(200):
        with held(tmp_path, str(number)):
            write_state(tmp_path, str(number), {"status": "done"})
    with LocalPool(1, 1) as pool:
        pool.start(0, int, 0)  # the worker's own start is paid once
        list(pool.finished())
        middle = time.perf_counter()
        for number in range(200):
            pool.start(number, int, number)
            list(pool.finished())
        handing = (time.perf_counter() - middle) / 200
    locking = (middle - started) / 200
    print(f"lock {locking * 1e3:.1f} ms, hand out {handing * 1e3:.1f} ms")
    assert locking + handing < 0.01 * 120
