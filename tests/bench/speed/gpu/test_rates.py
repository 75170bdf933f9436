"""Ways of training that are read by turns: who says what to whom; how fast anything is is no test's business."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from kdbench.bench.speed.gpu.checks.runs import teacher_file
from kdbench.bench.speed.gpu.rates import profiles, tables, turns
from kdbench.bench.speed.gpu.rates.candidate import Window
from kdbench.bench.speed.gpu.rates.plain import augment, plain_steps
from kdbench.bench.speed.gpu.rates.turns import by_turns
from kdbench.bench.speed.gpu.settings import settings_for

CPU = torch.device("cpu")
PEERS = {
    "broken": "def steps(device):\n    raise ValueError('no data set\\nhere')\n",
    "dying": "import os\ndef steps(device):\n    return lambda n: os._exit(3)\n",
    "later": """
def steps(device):
    calls = []
    def take(n):
        calls.append(n)
        return 20 // (3 - len(calls))
    return take
""",
}


class Talk:
    """Notes what is said, and has so many turns."""

    def __init__(self, turns: int) -> None:
        self.said: list[dict[str, Any]] = []
        self.turns = turns

    def say(self, answer: dict[str, Any]) -> None:
        self.said.append(answer)

    def wait(self) -> None:
        self.turns -= 1
        if self.turns < 0:
            raise SystemExit(0)


def walk(window: Window, members: int, epochs: int, steps: int) -> None:
    for epoch in range(1, epochs + 1):
        for step in range(1, steps + 1):
            for member in range(members):
                window(member, epoch, step, steps)


@pytest.mark.parametrize("members", [1, 3])
def test_a_reading_counts_the_images_of_all_members(members):
    talk = Talk(turns=2)
    with pytest.raises(SystemExit):
        walk(Window(talk, CPU, batch=8, before=2, steps=5, epoch=1), members, epochs=1, steps=20)
    assert talk.said[0] == {"ready": True}
    assert [answer["images"] for answer in talk.said[1:]] == [members * 5 * 8] * 2
    assert all(answer["seconds"] > 0 for answer in talk.said[1:])


def test_readings_are_in_their_epoch():
    talk = Talk(turns=9)
    walk(Window(talk, CPU, batch=8, before=2, steps=5, epoch=2), 1, epochs=3, steps=20)
    assert [answer.get("images") for answer in talk.said] == [None, 40, 40, 40]


def test_peers_are_read_and_their_failures_told(tmp_path):
    specs = {}
    for name, text in PEERS.items():
        file = tmp_path / f"{name}.py"
        file.write_text(text, encoding="utf-8")
        specs[name] = {
            "kind": "peer",
            "device": "cpu",
            "file": str(file),
            "before": 2,
            "steps": 3,
            "batch": 0,
            "members": 1,
        }
    rates, missing = by_turns(specs, 2, 60.0, tmp_path / "logs")
    assert {name: len(values) for name, values in rates.items()} == {"later": 1}
    assert rates["later"][0] > 0
    assert missing["broken"] == "not ready: ValueError: no data set"
    assert missing["dying"] == "not ready: its process ended with code 3: no message"
    assert missing["later"] == "failed in reading 2: ZeroDivisionError: integer division or modulo by zero"


def test_one_that_hangs_is_ended(tmp_path):
    file = tmp_path / "hangs.py"
    file.write_text("import time\ndef steps(device):\n    time.sleep(600)\n", encoding="utf-8")
    spec = {"kind": "peer", "device": "cpu", "file": str(file), "before": 1, "steps": 1, "batch": 0, "members": 1}
    began = time.monotonic()
    assert by_turns({"hangs": spec}, 1, 1.0, tmp_path) == (
        {},
        {"hangs": "not ready: it took longer than the time that it had"},
    )
    assert time.monotonic() - began < 60


def test_no_reading_is_begun_after_the_time(tmp_path, monkeypatch):
    class Ready:
        """Takes half of the time for each answer."""

        def __init__(self, name, spec, folder) -> None:
            self.name, self.answers = name, 0

        def answer(self, until):
            self.answers += 1
            if self.answers == 1:
                return {"ready": True}
            clock[0] += 5.0
            return {"seconds": 1.0, "images": 8}

        def go(self) -> None:
            assert clock[0] < 10.0

        def end(self) -> None:
            clock.append(0.0)

    clock = [0.0]
    monkeypatch.setattr(turns, "Candidate", Ready)
    monkeypatch.setattr(turns.time, "monotonic", lambda: clock[0])
    specs = {name: {"batch": 8, "steps": 1, "members": 1} for name in ("one", "two", "three")}
    rates, missing = by_turns(specs, 3, 10.0, tmp_path)
    assert rates == {"one": [8.0], "two": [8.0]}
    assert missing == {"three": "no time was left for a reading"}
    assert len(clock) == 1 + len(specs)


def test_a_cohort_of_fewer_students_is_no_reading(tmp_path):
    pair = settings_for("cpu").small
    spec = tables.Specs(settings_for("cpu"), pair, tmp_path).runs(tables.FLOAT)
    rates, missing = by_turns({"two": {**spec, "members": 2}}, 1, 100.0, tmp_path)
    assert rates == {}
    assert missing == {"two": "only 1 of its students were trained together"}


def test_ratios_are_those_of_the_same_round():
    rows = tables.rows_of({"base": [1.0, 2.0, 4.0], "twice": [2.0, 4.0, 8.0], "cut off": [3.0]}, "base")
    assert [(row["name"], row["ratio"], row["readings"]) for row in rows] == [
        ("base", 1, 3),
        ("twice", 2, 3),
        ("cut off", 3, 1),
    ]
    assert rows[1] == {"name": "twice", "rate": 4.0, "low": 2.0, "high": 8.0, "readings": 3, "ratio": 2.0}
    assert tables.rows_of({"alone": [1.0]}, "base")[0]["ratio"] is None


def test_candidates_of_a_gpu_are_specified(tmp_path, monkeypatch):
    """What would be started on a card; nothing is."""
    asked: dict[str, Any] = {}

    def no_turns(specs, rounds, seconds, folder, **how):
        asked.update(specs)
        return {}, {}

    monkeypatch.setattr(tables, "by_turns", no_turns)
    monkeypatch.setattr(tables, "teacher_file", lambda *given, **options: "teacher.pt")
    monkeypatch.setattr(tables.importlib.util, "find_spec", lambda name: object())
    settings = settings_for("cuda", (), (str(tmp_path / "mdistiller_trainer.py"),))
    for measure in (tables.small, tables.large, tables.compiled):
        measure(settings, tmp_path, 60.0)
    assert {
        "cohort of 7",
        "SOLVER.COMPILE",
        "peer mdistiller_trainer",
        "plain loop, bf16 channels_last, batch 256",
    } < set(asked)
    runs = {name: spec["runs"] for name, spec in asked.items() if spec["kind"] == "runs"}
    assert {name: len(found) for name, found in runs.items() if len(found) > 1} == {
        "cohort of 4, bf16 channels_last": 4,
        "cohort of 7, bf16 channels_last": 7,
        "cohort of 7": 7,
    }
    from kdbench.config.cohort import check_together
    from kdbench.config.load import load_config

    for found in runs.values():
        check_together([load_config(overrides=settings) for settings in found])
    assert runs["KD, TF32, step by step"][0]["SOLVER.GRAPH"] == "off"
    assert runs["KD, not deterministic"][0]["RUNTIME.DETERMINISTIC"] is False
    assert asked["KD, warm cache"]["epoch"] == 2


def test_the_plain_loop_learns(tmp_path):
    spec = tables.Specs(settings_for("cpu"), settings_for("cpu").small, tmp_path).plain("bf16", channels_last=True)
    steps = plain_steps(spec, CPU)
    assert steps(3) == 24  # more than the images of a pass are there for
    assert steps(4) == 32


def test_images_are_moved_and_flipped_whole():
    images = torch.arange(1, 49, dtype=torch.uint8).reshape(1, 3, 4, 4).expand(64, -1, -1, -1)
    flipped = augment(images, 0)
    found = {tuple(image.flatten().tolist()) for image in flipped}
    assert found == {tuple(images[0].flatten().tolist()), tuple(images[0].flip(2).flatten().tolist())}
    moved = augment(images, 2)
    assert moved.shape == images.shape
    assert len({tuple(image.flatten().tolist()) for image in moved}) > 10
    inside = torch.where(moved > 0, moved - 1, moved).long()
    assert torch.equal(torch.where(moved > 0, inside // 16, -1).amax((2, 3)), torch.tensor([[0, 1, 2]]).expand(64, 3))


def test_images_are_augmented_where_they_are():
    with FakeTensorMode(allow_non_fake_inputs=False):
        images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8, device="cuda")
        assert augment(images, 4).device.type == "cuda"


def test_a_profile_without_a_gpu_is_the_time_of_a_step(tmp_path):
    told: list = []
    (row,) = profiles.run(settings_for("cpu"), tmp_path, lambda found: told.append(1), "small, step by step")["rows"]
    assert set(row) == {"name", "data_share", "step_ms"}
    assert 0 < row["data_share"] < 1
    assert row["step_ms"] > 0
    assert told
    (row,) = profiles.run(settings_for("cpu"), tmp_path, told.append, "large, captured")["rows"]
    assert row == {"name": "large, captured", "missing": "takes a GPU"}


class Profiler:
    """PyTorch's, which has seen this."""

    events = [{"ph": "X", "cat": "kernel", "name": "k", "ts": 0, "dur": 1000.0}]

    def __init__(self, activities) -> None:
        self.calls = ["made"]

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def export_chrome_trace(self, path: str) -> None:
        assert self.calls == ["made", "start", "stop"]
        Path(path).write_text(json.dumps({"traceEvents": self.events}), encoding="utf-8")


def _three_epochs(watch: profiles.Watch) -> None:
    for epoch in (1, 2, 3, 4):
        for step in range(1, 31):
            if epoch == 2 and step == 8:
                for text in (*["called a synchronizing CUDA operation"] * 2, "something else"):
                    warnings.warn(text, stacklevel=1)
            watch(epoch, step, 30)


def watched(tmp_path, monkeypatch) -> dict[str, Any]:
    """What is found on a device that is called a GPU, of epochs of 30 steps, one of which waits twice."""
    modes: list[str] = []
    monkeypatch.setattr(profiles, "profile", Profiler)
    monkeypatch.setattr(profiles, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    found: dict[str, Any] = {}
    watch = profiles.Watch(torch.device("cuda"), (5, 20, 16), tmp_path, found, lambda: None)
    with pytest.raises(profiles.Enough):
        _three_epochs(watch)
    assert modes == ["warn", "default"]
    return found


def test_a_profile_of_a_gpu(tmp_path, monkeypatch):
    found = watched(tmp_path, monkeypatch)
    assert found["warned"] == pytest.approx(2 / 20)
    assert found["kernels"] == pytest.approx(1 / 16)
    assert found["busy"] == pytest.approx(found["busy_ms"] / found["step_ms"])


def test_a_trace_without_kernels_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(Profiler, "events", [])
    found = watched(tmp_path, monkeypatch)
    assert found["error"] == "the profiler's trace holds no kernels"
    assert "busy" not in found


def test_the_teacher_is_that_of_the_pair(tmp_path):
    pair = settings_for("cpu").small
    file = teacher_file(tmp_path, "cpu", pair.teacher, pair.size, pair.classes, **pair.options[0])
    shapes = {tuple(value.shape) for value in torch.load(file, weights_only=True).values()}
    assert (10, 24) in shapes
