"""Runs under ``SOLVER.TASK_LOSS: bce``: what they learn, what they are called, and which methods cannot follow it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch.nn.functional as F
from forked_ranks import forked
from timm.loss import BinaryCrossEntropy
from tiny_run import content, settings

import kdbench
from kdbench import Distiller, register_distiller
from kdbench.data.build import build_data
from kdbench.distillers.base import distillers
from kdbench.engine.session import prepare
from kdbench.engine.session.locate import locate
from kdbench.errors import ConfigError, IncompatibleError

BCE = {"SOLVER.TASK_LOSS": "bce"}
TAUGHT = {
    "DISTILLER.TYPE": "KD",
    "DISTILLER.TEACHER": "small_cnn",
    "TEACHER.NORM": "dataset",
    "TEACHER.FLOOR": 0.0,
}


@pytest.fixture
def timms():
    """A method that holds the student's logits against the batch's target by timm's loss."""
    losses: list[BinaryCrossEntropy] = []

    @register_distiller("TIMMS")
    class Timms(Distiller):
        uses_teacher = False

        def losses(self, student, teacher, batch):
            return {"ce": losses[0](student.logits, batch.target)}

    yield losses
    distillers.remove("TIMMS")


@pytest.mark.parametrize(
    ("keys", "loss"),
    [
        ({"SOLVER.LABEL_SMOOTHING": 0.1}, BinaryCrossEntropy(smoothing=0.1)),
        (
            {"SOLVER.LABEL_SMOOTHING": 0.1, "SOLVER.BCE_TARGET_THRESH": 0.2},
            BinaryCrossEntropy(smoothing=0.1, target_threshold=0.2),
        ),
        # mixed labels hold the smoothing already
        (
            {"SOLVER.LABEL_SMOOTHING": 0.1, "SOLVER.BCE_TARGET_THRESH": 0.2, "AUGMENT.MIXUP": 0.8},
            BinaryCrossEntropy(smoothing=0.1, target_threshold=0.2),
        ),
    ],
)
def test_a_run_learns_what_timms_loss_teaches(keys, loss, timms, tmp_path):
    timms.append(loss)
    own = kdbench.train(settings(tmp_path, 2, **keys, **BCE))
    other = kdbench.train(settings(tmp_path, 2, **keys, **{"DISTILLER.TYPE": "TIMMS"}))
    means = [
        [json.loads(line)["train"]["ce"] for line in Path(result.folder, "metrics.jsonl").read_text().splitlines()]
        for result in (own, other)
    ]
    assert means[0] == pytest.approx(means[1], rel=1e-6)


@pytest.mark.parametrize(
    ("smoothing", "threshold", "said"),
    [
        (
            0.1,
            0.95,
            "0.95 makes every target 0; with SOLVER.LABEL_SMOOTHING=0.1 and 4 classes expects at least 0.025 and less than 0.925",
        ),
        (0.1, 0.0, "0 makes every target 1"),
        (0.3, 0.78, "0.78 makes every target 0"),
    ],
)
def test_a_threshold_that_makes_all_targets_equal_is_refused(tmp_path, smoothing, threshold, said):
    keys = {"SOLVER.LABEL_SMOOTHING": smoothing, "SOLVER.BCE_TARGET_THRESH": threshold}
    with pytest.raises(ConfigError, match=re.escape(said)):
        kdbench.train(settings(tmp_path, 1, **BCE, **keys))
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_members_of_a_cohort_have_their_own(tmp_path):
    mixed = {"AUGMENT.MIXUP": 0.8}  # of plain labels any threshold makes the same targets
    keys = [mixed, {**BCE, **mixed}, {**BCE, **mixed, "SOLVER.BCE_TARGET_THRESH": 0.3}]
    alone = [kdbench.train(settings(tmp_path / "alone", 2, **TAUGHT, **one)) for one in keys]
    together = kdbench.train_cohort([settings(tmp_path / "together", 2, **TAUGHT, **one) for one in keys])
    contents = [content(result.folder) for result in together]
    assert contents == [content(result.folder) for result in alone]
    assert len({content[1] for content in contents}) == 3


def test_parts_of_a_batch_and_processes_add_up(tmp_path):
    extra = {**TAUGHT, **BCE, "SOLVER.LABEL_SMOOTHING": 0.1, "DISTILLER.STUDENT": "small_vit"}
    whole = kdbench.train(settings(tmp_path / "whole", 1, **extra))
    parts = kdbench.train(settings(tmp_path / "parts", 1, **extra, **{"SOLVER.ACCUMULATE": 4}))
    ended = forked(tmp_path, lambda rank: kdbench.train(settings(tmp_path / "ranks", 1, **extra)))
    assert ended.codes == [0, 0], ended.texts
    (ranks,) = (tmp_path / "ranks").glob("*/metrics.jsonl")
    lines = [json.loads(Path(file).read_text())["train"]["ce"] for file in (f"{whole.folder}/metrics.jsonl", ranks)]
    lines.append(json.loads(Path(parts.folder, "metrics.jsonl").read_text())["train"]["ce"])
    assert lines[1:] == pytest.approx(lines[:1] * 2, rel=1e-5)


def test_it_is_part_of_a_runs_name_where_it_is_not_the_usual_one(tmp_path):
    def name(**keys) -> str:
        cfg = settings(tmp_path, 1, **keys)
        return locate(cfg, build_data(cfg))[0].path.name

    usual = name()
    assert name(**{"SOLVER.TASK_LOSS": "ce", "SOLVER.BCE_TARGET_THRESH": -1}) == usual
    assert len({usual, name(**BCE), name(**BCE, **{"SOLVER.BCE_TARGET_THRESH": 0.2})}) == 3


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("SOLVER.TASK_LOSS", "bec", "did you mean 'bce'"),
        ("SOLVER.BCE_TARGET_THRESH", 1.0, "SOLVER.BCE_TARGET_THRESH"),
        ("SOLVER.BCE_LOSS", True, "did you mean 'TASK_LOSS'"),
    ],
)
def test_what_is_no_value_of_it(key, value, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        settings(tmp_path, 1, **{key: value})


@pytest.fixture
def entropy_of_its_own():
    @register_distiller("OWN_CE")
    class OwnCE(Distiller):
        uses_teacher = False

        def losses(self, student, teacher, batch):
            return {"ce": F.cross_entropy(student.logits, batch.target)}

    yield "OWN_CE"
    distillers.remove("OWN_CE")


@pytest.mark.parametrize("composed", [False, True])
def test_a_method_that_would_not_follow_is_refused_before_training(composed, entropy_of_its_own, tmp_path):
    method = f"KD+{entropy_of_its_own}" if composed else entropy_of_its_own
    keys = {**TAUGHT, "DISTILLER.TYPE": method}
    with pytest.raises(IncompatibleError, match=r"^SOLVER.TASK_LOSS: bce would change nothing for OWN_CE") as caught:
        kdbench.train(settings(tmp_path, 1, **keys, **BCE))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*/config.yaml"))
    assert kdbench.train(settings(tmp_path, 1, **keys)).epochs == 1


def test_looking_for_that_changes_nothing(tmp_path, monkeypatch):
    looked = kdbench.train(settings(tmp_path / "one", 1, **TAUGHT, **BCE))
    monkeypatch.setattr(prepare, "check_task_loss", lambda *args: None)
    other = kdbench.train(settings(tmp_path / "two", 1, **TAUGHT, **BCE))
    assert content(looked.folder) == content(other.folder)
