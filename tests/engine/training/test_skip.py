"""``SOLVER.NON_FINITE: skip``: a step that is not finite is as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_run import content, settings

import kdbench
from kdbench.distillers.base import Distiller, distillers, register_distiller
from kdbench.engine.training.trainer import Trainer
from kdbench.errors import NonFiniteLossError

SKIP = {"SOLVER.NON_FINITE": "skip", "SOLVER.MAX_SKIPPED": 2}


class _OddLoss(Distiller):
    """Cross entropy of a student whose loss, or its gradient, is not finite at some steps."""

    uses_teacher = False
    bad: frozenset[int] = frozenset()
    kind = "loss"

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, student, teacher, batch):
        output = student(batch.images)
        number = (batch.epoch - 1) * 3 + int(batch.progress * 6 + 0.5) % 3
        loss = torch.nn.functional.cross_entropy(output.logits, batch.target)
        factor = 1.0
        if number in self.bad:
            factor = float("inf") if self.kind == "loss" else 1.0
            if self.kind == "gradient":  # 0 forwards, infinity times 0 backwards
                loss = loss + (output.logits.sum() * 0).abs().sqrt()
        self.mean.copy_(output.logits.detach().mean() * factor)
        return {"ce": loss * factor}


@pytest.fixture
def odd_loss():
    register_distiller("OddLoss")(_OddLoss)
    yield _OddLoss
    distillers.remove("oddloss")
    _OddLoss.bad, _OddLoss.kind = frozenset(), "loss"


def run(folder, **extra):
    return kdbench.train(settings(folder, 2, **{"DISTILLER.TYPE": "OddLoss", **extra}))


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("solver", ["SGD", "ADAM", "ADAMW", "LAMB"])
def test_a_skipped_step_changes_nothing(tmp_path, odd_loss, monkeypatch, solver, kind):
    """Neither weights nor moments nor running statistics: the run ends as one that never takes those steps."""
    odd_loss.bad, odd_loss.kind = frozenset({1, 5}), kind
    extra = {"SOLVER.TYPE": solver, "SOLVER.CLIP_GRAD": 1.0, **SKIP}
    result = run(tmp_path / "skips", **extra)
    assert result.skipped_steps == 2
    lines = [json.loads(line) for line in (Path(result.folder) / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines] == [1, 2]
    taken = Trainer.take

    def take(self, batch, given, step, *args, **options):
        if (batch.epoch - 1) * 3 + step not in (1, 5):
            taken(self, batch, given, step, *args, **options)

    odd_loss.bad = frozenset()
    monkeypatch.setattr(Trainer, "take", take)
    other = run(tmp_path / "never", **extra)
    assert content(result.folder)[1] == content(other.folder)[1]
    if kind == "loss":  # the mean of a term is over the steps that were taken
        theirs = [json.loads(line) for line in (Path(other.folder) / "metrics.jsonl").read_text().splitlines()]
        assert [line["train"] for line in lines] == [line["train"] for line in theirs]


def test_a_run_without_such_steps_is_the_same(tmp_path, odd_loss):
    one, two = run(tmp_path / "skips", **SKIP), run(tmp_path / "stops")
    assert one.run_id != two.run_id  # another would end differently
    assert content(one.folder)[1] == content(two.folder)[1]
    assert (one.skipped_steps, two.skipped_steps) == (0, 0)


def test_they_are_bounded(tmp_path, odd_loss):
    odd_loss.bad = frozenset({0, 2, 4})
    with pytest.raises(NonFiniteLossError, match=r"3 steps were not finite and skipped, SOLVER.MAX_SKIPPED is 2"):
        run(tmp_path, **SKIP)
    # what was counted is in the checkpoint; a larger bound is the same run, which goes on
    assert run(tmp_path, **SKIP | {"SOLVER.MAX_SKIPPED": 3}).skipped_steps == 3


def test_an_epoch_of_nothing_else(tmp_path, odd_loss):
    odd_loss.bad = frozenset({3, 4, 5})
    with pytest.raises(NonFiniteLossError, match="every step of an epoch"):
        run(tmp_path, **SKIP | {"SOLVER.MAX_SKIPPED": 10})


def test_without_it_the_first_one_ends_the_run(tmp_path, odd_loss):
    odd_loss.bad = frozenset({1})
    with pytest.raises(NonFiniteLossError, match=r"loss term ce of OddLoss is not finite in epoch 1, step 2"):
        run(tmp_path)
