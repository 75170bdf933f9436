"""Processes that were not given the same work do not begin it (real ones, joined by gloo)."""

from __future__ import annotations

import pytest
import torch
from forked_ranks import forked, settings, words

import kdbench
from kdbench.cli.main import main

DIFFERENT = {
    "value": ({"SOLVER.LR": 0.1}, "SOLVER.LR is 0.05 and 0.1"),
    "data": (
        {"DATASET.OPTIONS": {"size": 8, "train": 60, "test": 32}},
        "the number of training images is 64 and 60",
    ),
    "folder": ({"EXPERIMENT.NAME": "other"}, "the folder of the runs is "),
    "weights": ({"STUDENT.WEIGHTS": "w"}, "the hash of the student's weights is "),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_processes_that_were_not_given_the_same_work_do_not_begin(tmp_path, kind):
    changed, said = DIFFERENT[kind]
    if kind == "weights":
        for rank in range(2):
            (tmp_path / str(rank)).mkdir()
            kdbench.train(
                kdbench.load_config(overrides=settings(tmp_path / str(rank), **{"EXPERIMENT.SEED": rank + 1}))
            )
            (file,) = (tmp_path / str(rank)).rglob("student.safetensors")
            file.rename(tmp_path / f"{rank}.safetensors")
        changes = [{"STUDENT.WEIGHTS": tmp_path / f"{rank}.safetensors"} for rank in range(2)]
    else:
        changes = [{}, changed]
    done = forked(tmp_path, lambda rank: main(words(tmp_path, **changes[rank])))
    assert done.codes == [2, 2], done.texts
    (line,) = done.lines
    assert line.startswith("kdbench: processes 0 and 1 of this run disagree: ")
    assert said in line
    assert not list((tmp_path / "runs").rglob("config.yaml"))


@pytest.mark.parametrize("name", ["kdbench", "PyTorch"])
def test_versions_must_agree(tmp_path, name):
    from kdbench.engine import runtime

    def work(rank):
        if rank and name == "kdbench":
            runtime.__version__ = "99"
        elif rank:
            torch.__version__ = "99"
        return main(words(tmp_path))

    done = forked(tmp_path, work)
    assert done.codes == [2, 2], done.texts
    (line,) = done.lines
    assert f'{name} is "' in line
    assert line.endswith(' and "99"')


def test_workers_threads_and_logging_may_differ(tmp_path):
    def work(rank):
        return main(words(tmp_path, **{"DATASET.NUM_WORKERS": rank, "RUNTIME.THREADS": rank, "LOG.TENSORBOARD": False}))

    assert forked(tmp_path, work).codes == [0, 0]
