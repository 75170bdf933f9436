"""Students that share batches and teacher: each ends in the bytes of its separate run, whatever becomes of the others."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from each_method import KINDS, short

import kdbench
from kdbench import list_distillers
from kdbench.distillers.base import Distiller, distillers, register_distiller
from kdbench.engine.training.together import room as room_module
from kdbench.engine.training.trainer import Trainer
from kdbench.errors import ConfigError, IncompatibleError, NonFiniteLossError

BASE = {
    "DATASET.TYPE": "fake",
    "DATASET.OPTIONS": {"size": 16, "train": 72, "test": 32, "num_classes": 10},
    "DATASET.NUM_WORKERS": 0,
    "DISTILLER.STUDENT": "small_cnn",
    "STUDENT.OPTIONS": {"drop_rate": 0.3},
    "SOLVER.EPOCHS": 2,
    "SOLVER.BATCH_SIZE": 16,
    "SOLVER.LR": 0.001,
    "AUGMENT.CROP": "pad",
    "AUGMENT.PAD": 2,
}
TEACHER = {"DISTILLER.TEACHER": "small_cnn", "TEACHER.OPTIONS": {"widths": [12, 16, 24]}}


def settings(folder, method: str, **extra):
    teacher = {} if method == "Vanilla" else TEACHER
    return kdbench.load_config(
        overrides={**BASE, "DISTILLER.TYPE": method, "LOG.PREFIX": str(folder), **teacher, **short(method), **extra}
    )


def content(result) -> dict[str, bytes]:
    return {name: (Path(result.folder) / name).read_bytes() for name in ("metrics.jsonl", "student.safetensors")}


def alone(folder, method: str, **extra) -> dict[str, bytes]:
    return content(kdbench.train(settings(folder, method, **extra)))


@pytest.mark.parametrize(
    ("methods", "least"),
    [
        pytest.param([m for m in list_distillers() if m.upper() in KINDS], 15, id="kinds"),
        pytest.param(list_distillers(), 50, id="all", marks=pytest.mark.slow),
    ],
)
def test_every_method_ends_in_the_bytes_of_its_separate_run(tmp_path, methods, least):
    separate = {}  # None where it is undefined for the pair
    for method in methods:
        try:
            separate[method] = alone(tmp_path / "separate" / method, method)
        except IncompatibleError:
            separate[method] = None
    outcomes = kdbench.train_cohort([settings(tmp_path, method) for method in methods])
    defined = [method for method, found in separate.items() if found is not None]
    assert len(defined) >= least
    for method, outcome in zip(methods, outcomes):
        if separate[method] is None:
            assert isinstance(outcome, IncompatibleError), method
        else:
            assert content(outcome) == separate[method], method
            assert outcome.run_id == Path(outcome.folder).name


@pytest.mark.parametrize(
    "extra",
    [
        {"SOLVER.PRECISION": "bf16", "SOLVER.CHANNELS_LAST": True, "AUGMENT.MIXUP": 0.8, "SOLVER.LABEL_SMOOTHING": 0.1},
        {"CACHE.ENABLED": True, "SOLVER.EMA": 0.9, "SOLVER.CLIP_GRAD": 1.0},
        {"TEACHER.PRECISION": "bf16", "DATASET.NUM_WORKERS": 2, "SOLVER.TYPE": "ADAMW"},
        {"DATASET.VAL_FRACTION": 0.25, "DATASET.REPEAT": 2, "CACHE.ENABLED": True, "CACHE.VIEWS": 1},
    ],
    ids=["bf16", "cache", "teacher-bf16", "views"],
)
def test_under_every_setting(tmp_path, extra):
    methods = ["Vanilla", "KD", "CRD", "FitNet", "CRD+KD", "FCFD"][: 5 if "TEACHER.PRECISION" in extra else 6]
    expected = [alone(tmp_path / method, method, **extra) for method in methods]
    outcomes = kdbench.train_cohort([settings(tmp_path / "together", method, **extra) for method in methods])
    assert [content(outcome) for outcome in outcomes] == expected


def test_students_rates_and_smoothing_may_differ(tmp_path):
    own = [
        {"SOLVER.LR": 0.01, "SOLVER.LABEL_SMOOTHING": 0.2},
        {"STUDENT.OPTIONS": {"widths": [8, 8, 8]}, "SOLVER.EVAL_EVERY": 2},
        {"SOLVER.SCHEDULE": "cosine", "SOLVER.WARMUP_EPOCHS": 1.0, "SOLVER.EMA": 0.5},
    ]
    expected = [alone(tmp_path / str(n), "KD", **extra) for n, extra in enumerate(own)]
    outcomes = kdbench.train_cohort([settings(tmp_path / "together", "KD", **extra) for extra in own])
    assert [content(outcome) for outcome in outcomes] == expected


def test_a_killed_cohort_resumes_each_member_from_its_own_epoch(tmp_path):
    methods = ["KD", "CRD", "Vanilla"]
    expected = [alone(tmp_path / method, method, **{"SOLVER.EPOCHS": 4}) for method in methods]
    cfgs = [settings(tmp_path / "together", method, **{"SOLVER.EPOCHS": 4}) for method in methods]

    def stop(epochs):
        def progress(member, epoch, step, steps):
            if (epoch, step) == (epochs, 2) and member == 1:
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        kdbench.train_cohort(cfgs[:2], progress=stop(3))  # two are after epoch 2, the third has not begun
    with pytest.raises(KeyboardInterrupt):
        kdbench.train_cohort(cfgs[1:], progress=lambda m, e, s, n: stop(4)(m + 1, e, s, n))
    begun = {}
    outcomes = kdbench.train_cohort(cfgs, progress=lambda m, e, s, n: begun.setdefault(m, e))
    assert begun == {0: 3, 1: 4, 2: 4}
    assert [content(outcome) for outcome in outcomes] == expected
    again = kdbench.train_cohort(cfgs, progress=lambda *step: pytest.fail("it is done"))
    assert [one.run_id for one in again] == [one.run_id for one in outcomes]


@pytest.fixture
def own_method():
    """Register methods for one test."""
    names = []

    def register(name, losses):
        names.append(name)
        register_distiller(name)(type(name, (Distiller,), {"losses": losses}))

    yield register
    for name in names:
        distillers.remove(name.lower())


def test_one_that_fails_leaves_the_others_going(tmp_path, own_method):
    def losses(self, student, teacher, batch):
        ce = self.cross_entropy(student.logits, batch)
        return {"ce": ce, "bad": ce * (float("nan") if batch.epoch == 2 else 0.0)}

    own_method("BREAKS", losses)
    methods = ["KD", "BREAKS", "CRD"]
    expected = {method: alone(tmp_path / method, method) for method in ("KD", "CRD")}
    outcomes = kdbench.train_cohort([settings(tmp_path / "together", method) for method in methods])
    assert isinstance(outcomes[1], NonFiniteLossError)
    assert "bad" in str(outcomes[1])
    assert "epoch 2, step 1" in str(outcomes[1])
    assert content(outcomes[0]) == expected["KD"]
    assert content(outcomes[2]) == expected["CRD"]
    (broken,) = (tmp_path / "together").rglob("BREAKS*")
    assert not (broken / "result.json").exists()


def test_one_that_stops_itself_leaves_the_others_going(tmp_path):
    class LostError(Exception):
        pass

    def progress(member, epoch, step, steps):
        if member == 0 and step == 3:
            raise LostError("taken over")

    cfgs = [settings(tmp_path / "together", method) for method in ("KD", "CRD")]
    outcomes = kdbench.train_cohort(cfgs, progress=progress)
    assert isinstance(outcomes[0], LostError)
    assert content(outcomes[1]) == alone(tmp_path / "CRD", "CRD")


@pytest.mark.parametrize("extra", [{}, {"CACHE.ENABLED": True}], ids=["live", "cached"])
def test_one_that_writes_into_what_it_is_given_changes_nobody_elses(tmp_path, own_method, extra):
    def losses(self, student, teacher, batch):
        ce = self.cross_entropy(student.logits + teacher.logits, batch)
        teacher.logits.mul_(2.0)
        teacher.penultimate.data.zero_()
        batch.images.numpy()[:] = 0.0
        batch.draw.fill_(0)
        return {"ce": ce}

    own_method("VANDAL", losses)
    methods = ("VANDAL", "KD", "CRD+VANDAL", "CRD")
    outcomes = kdbench.train_cohort([settings(tmp_path / "together", method, **extra) for method in methods])
    for method, outcome in zip(methods, outcomes):
        assert content(outcome) == alone(tmp_path / method, method, **extra), method


def test_one_that_changes_the_network_it_is_given_changes_nobody_elses(tmp_path):
    class Shaker(Distiller):
        needs_networks = True

        def forward(self, student, teacher, batch):
            own = student(batch.images, need=self.student_needs)
            with torch.no_grad():
                teacher.train()
                target = teacher(batch.images)
                for parameter in teacher.parameters():
                    parameter.mul_(0.9)
            return {"ce": self.cross_entropy(own.logits + target.logits, batch)}

    register_distiller("SHAKER")(Shaker)
    try:
        outcomes = kdbench.train_cohort(
            [settings(tmp_path / "together", method) for method in ("SHAKER", "KD", "FCFD")]
        )
        for method, outcome in zip(("SHAKER", "KD", "FCFD"), outcomes):
            assert content(outcome) == alone(tmp_path / method, method), method
    finally:
        distillers.remove("shaker")


def test_a_method_that_draws_from_numpy_or_python_repeats(tmp_path, own_method):
    def losses(self, student, teacher, batch):
        return {"ce": self.cross_entropy(student.logits, batch) * (1 + np.random.rand() + random.random())}  # noqa: NPY002

    own_method("DICE", losses)
    outcomes = kdbench.train_cohort([settings(tmp_path / "together", method) for method in ("KD", "DICE")])
    assert content(outcomes[1]) == alone(tmp_path / "DICE", "DICE")


def test_members_that_do_not_fit_are_trained_after_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(room_module.Room, "fits", lambda self: len(self.taken) < 2)
    methods = ["KD", "CRD", "DKD", "Vanilla", "DIST"]
    order = []
    cfgs = [settings(tmp_path / "together", method) for method in methods]
    outcomes = kdbench.train_cohort(cfgs, progress=lambda m, e, s, n: order.append(m))
    first = [order.index(member) for member in range(5)]
    assert [sorted(range(5), key=first.__getitem__)[i] for i in range(5)] == [0, 1, 2, 3, 4]
    assert order.index(2) > max(i for i, m in enumerate(order) if m == 1)
    assert order.index(4) > max(i for i, m in enumerate(order) if m == 3)
    for method, outcome in zip(methods, outcomes):
        assert content(outcome) == alone(tmp_path / method, method)


def test_one_that_runs_out_of_memory_beside_others_is_trained_alone(tmp_path, monkeypatch):
    original, tried = Trainer.train_step, []

    def train_step(self, *step):
        if self.distiller.name == "CRD":
            tried.append(1)
            if len(tried) == 1:
                raise torch.cuda.OutOfMemoryError("no room")
        original(self, *step)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    outcomes = kdbench.train_cohort([settings(tmp_path / "together", method) for method in ("KD", "CRD")])
    monkeypatch.undo()
    assert content(outcomes[1]) == alone(tmp_path / "CRD", "CRD")


def test_room_is_measured(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(room_module, "free_bytes", lambda device: 1000.0)
    peaks = iter([100, 400, 400, 700])
    monkeypatch.setattr(room_module, "_peak", lambda device: next(peaks))
    room = room_module.Room(cpu)
    assert room.budget == 850.0
    assert room.fits()
    with room.measured():
        pass
    assert room.taken == [300]
    assert room.fits()
    with room.measured():
        pass
    assert not room.fits()
    monkeypatch.undo()
    assert room_module.free_bytes(cpu) > 0


def test_a_method_inside_the_teacher_has_its_precision(tmp_path):
    extra = {"TEACHER.PRECISION": "bf16"}
    outcomes = kdbench.train_cohort([settings(tmp_path, method, **extra) for method in ("FCFD", "KD")])
    assert isinstance(outcomes[0], IncompatibleError)
    assert "TEACHER.PRECISION bf16 beside SOLVER.PRECISION fp32" in str(outcomes[0])
    assert content(outcomes[1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("EXPERIMENT.SEED", 2),
        ("SOLVER.EPOCHS", 3),
        ("AUGMENT.PAD", 1),
        ("TEACHER.OPTIONS", {"widths": [8, 16, 24]}),
        ("DATASET.PER_CLASS", 2),
        ("SOLVER.PRECISION", "bf16"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path, key, value):
    with pytest.raises(ConfigError, match=rf"^{key}: the runs of a cohort have one value of it"):
        kdbench.train_cohort([settings(tmp_path, "KD"), settings(tmp_path, "DKD", **{key: value})])
    assert not list(tmp_path.iterdir())


def test_the_same_run_twice_is_refused(tmp_path):
    outcomes = kdbench.train_cohort([settings(tmp_path, "KD"), settings(tmp_path, "KD")])
    assert isinstance(outcomes[1], ConfigError)
    assert "members 0 and 1 of the cohort are the same run" in str(outcomes[1])
    assert content(outcomes[0])


def test_no_configuration_at_all():
    with pytest.raises(ConfigError, match="at least one"):
        kdbench.train_cohort([])
