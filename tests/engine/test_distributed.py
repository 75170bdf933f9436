"""One run over two processes (gloo on the CPU)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORDS = ["--cfg", "configs/digits/student.yaml", "SOLVER.EPOCHS=2", "SOLVER.WARMUP_EPOCHS=0", "SOLVER.EVAL_EVERY=1"]


def launch(prefix, teacher, *extra, world=2):
    words = [*WORDS, f"LOG.PREFIX={prefix}", "--teacher", "small_mixer", f"TEACHER.WEIGHTS={teacher}", *extra]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc_per_node={world}",
        "--master_port=0",
        "--standalone",
    ]
    done = subprocess.run(
        [*command, "-m", "kdbench", "train", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = [file.parent for file in Path(prefix).rglob("result.json")]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", ["KD", "HCD", "CRD"])
def test_two_processes_train_one_student(tmp_path, digits_teacher, method):
    folder = launch(tmp_path / "two", digits_teacher, "--distiller", method)
    result = json.loads((folder / "result.json").read_text())
    assert result["environment"]["world_size"] == 2
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]  # one process writes
    # accuracies are multiples of 1/500: every test image was counted once
    assert all(abs(line["top1"] * 5 - round(line["top1"] * 5)) < 1e-6 for line in lines)
    again = launch(tmp_path / "again", digits_teacher, "--distiller", method)
    states = [torch.load(f / "checkpoint.pt", weights_only=True)["student"] for f in (folder, again)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
def test_two_processes_fill_and_read_the_cache(tmp_path, digits_teacher):
    cached = ["CACHE.ENABLED=True", f"CACHE.DIR={tmp_path / 'cache'}", "--distiller"]
    first = launch(tmp_path / "a", digits_teacher, *cached, "KD")
    assert len(list((tmp_path / "cache").rglob("view*.bin"))) == 2
    second = launch(tmp_path / "b", digits_teacher, *cached, "KD")
    assert (first / "metrics.jsonl").read_bytes() == (second / "metrics.jsonl").read_bytes()


PLUGIN = """
import os, signal, time
from kdbench import Distiller, register_distiller

@register_distiller("ACCIDENT")
class Accident(Distiller):
    uses_teacher = False
    steps = 0

    def losses(self, student, teacher, batch):
        Accident.steps += 1
        what, rank = os.environ["ACCIDENT"].split()
        if Accident.steps == 4 and os.environ["RANK"] == rank:
            {"kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "sleep": lambda: time.sleep(1000),
             "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP), "raise": lambda: {}["missing"]}[what]()
        return {"ce": self.cross_entropy(student.logits, batch)}
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("kill", "is gone"),
        ("stop", "has given no sign of life for 4[01] s"),
        ("sleep", r"has been stuck for 4[56] s at accident.py:\d+ \(<lambda>\)"),
        ("raise", "failed: KeyError: 'missing'"),
    ],
)
def test_a_process_that_ends_badly_ends_all_within_a_minute(tmp_path, what, said, rank):
    """With torchrun, which would end the others before they could say why, and at the pace of real runs."""
    (tmp_path / "accident.py").write_text(PLUGIN)
    words = ["train", *WORDS, f"LOG.PREFIX={tmp_path}", "--import", str(tmp_path / "accident.py")]
    words += ["--distiller", "ACCIDENT", "SOLVER.BATCH_SIZE=16"]
    # the first step is the longest of the run, and ten times that is the limit where it is above 45 s
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "kdbench"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCIDENT": f"{what} {rank}"}
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, timeout=75, env=environment)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("kdbench: ")]
    if what == "raise" and rank == 0:
        assert line.startswith("kdbench: unexpected error: KeyError: 'missing' (details: ")
    else:
        told = (
            rf"kdbench: process {rank} of 2 \(pid \d+ on .*\) {said}; the same command goes on from the last checkpoint"
        )
        assert re.fullmatch(told, line), line


@pytest.mark.slow
def test_a_run_that_is_resumed_over_three_processes_ends_in_the_same_bits(tmp_path, digits_teacher, monkeypatch):
    """From three on, the order in which gradients are added matters, and a resumed process must not group them anew."""
    extra = ["--distiller", "KD", "SOLVER.EPOCHS=3", "SOLVER.BATCH_SIZE=24"]
    whole = launch(tmp_path / "whole", digits_teacher, *extra, world=3)
    (tmp_path / "killer.py").write_text(
        "import os\nfrom kdbench.engine.training import trainer\nsave = trainer.save\n\n"
        "def once(self, epoch, *more):\n    save(self, epoch, *more)\n"
        "    if (epoch, os.environ['RANK']) == (1, '2') and not os.environ.get('LATER'):\n        os._exit(9)\n\n"
        "trainer.save = once\n"
    )
    killer = ["--import", str(tmp_path / "killer.py")]
    with pytest.raises(AssertionError):
        launch(tmp_path / "killed", digits_teacher, *extra, *killer, world=3)
    assert not list((tmp_path / "killed").rglob("result.json"))
    monkeypatch.setenv("LATER", "1")
    resumed = launch(tmp_path / "killed", digits_teacher, *extra, *killer, world=3)
    for name in ("metrics.jsonl", "student.safetensors"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()
