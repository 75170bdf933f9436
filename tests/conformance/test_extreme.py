"""Every registered method with huge logits, zeros, equal samples, half precision, the smallest batch, two classes, soft labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from each_method import each_method
from torch import Tensor

from kdbench.bench.methods.extreme import EXTREMES, check_extreme
from kdbench.distillers.base import Batch, Distiller, Losses, distillers, register_distiller
from kdbench.models.spec import ModelOutput

MATRIX = json.loads(Path(__file__).with_name("matrix.json").read_text(encoding="utf-8"))
TEACHERS = ("cnn", "vit", "mlp")
STUDENTS = (*TEACHERS, "distilled")
#: situations in which a method may be refused, by a word of the reason
REFUSED = {
    "classes": "it needs at least 3 classes",
    "fp16 large": "refused: ",
    "batch": "more than 1 value per channel",
}


def pairs(method: str) -> list[tuple[str, str]]:
    """Pairs on which the method runs."""
    every = [(teacher, student) for teacher in TEACHERS for student in STUDENTS]
    return [(t, s) for t, s in every if MATRIX[method].get(f"{t} -> {s}") == "runs"]


def check(method: str, teacher: str, student: str, situation: str) -> None:
    outcome = check_extreme(method, teacher, student, situation)
    expected = [reason for word, reason in REFUSED.items() if word in situation]
    assert outcome == "runs" or any(reason in outcome for reason in expected), outcome


@pytest.mark.parametrize("method", each_method())
def test_numbers_stay_finite(method: str) -> None:
    """Each situation on one pair, in turn."""
    there = pairs(method)
    for number, situation in enumerate(EXTREMES):
        check(method, *there[number % len(there)], situation)


@pytest.mark.slow
@pytest.mark.parametrize("method", each_method())
def test_numbers_stay_finite_on_all_pairs(method: str) -> None:
    for teacher, student in pairs(method):
        for situation in EXTREMES:
            check(method, teacher, student, situation)


@pytest.fixture
def outcome() -> Iterator[Callable[[Callable[[Tensor, Tensor], Tensor], str], str]]:
    """What the check says of a method whose loss is the given function of both networks' logits."""

    def checked(loss: Callable[[Tensor, Tensor], Tensor], situation: str, smallest: int = 1) -> str:
        class Tried(Distiller):
            """Whatever."""

            min_batch = smallest

            def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
                return {"ce": self.cross_entropy(student.logits, batch), "tried": loss(student.logits, teacher.logits)}

        distillers.remove("tried")
        register_distiller("TRIED")(Tried)
        return check_extreme("TRIED", "cnn", "cnn", situation)

    yield checked
    distillers.remove("tried")


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize(
    ("loss", "situation", "found"),
    [
        (lambda s, t: (t.softmax(1) * (t.softmax(1).log() - s.log_softmax(1))).sum(), "large", "term tried"),
        (lambda s, t: (s.exp() / t.exp()).mean(), "large student", "term tried"),
        (lambda s, t: s.mean() * t.exp().mean(), "large teacher", "term tried"),
        (lambda s, t: F.mse_loss(s, t).sqrt(), "zeros", "gradient of the student's"),
        (lambda s, t: (s / s.std(0, keepdim=True)).mean(), "identical", "term tried"),
        (lambda s, t: s.std(0).mean(), "smallest batch", "term tried"),
        (lambda s, t: (s[:, 2:] - t[:, 2:]).mean(), "two classes", "term tried"),
        (lambda s, t: ((s * 1e3) ** 2).mean(), "fp16", "term tried"),
    ],
    ids=["log of softmax", "exp", "product", "root", "deviation", "batch", "classes", "half"],
)
def test_what_is_not_finite_is_found(outcome, loss, situation: str, found: str) -> None:
    with pytest.raises(AssertionError, match=f"TRIED, cnn -> cnn, {situation}: {found}.* is not finite"):
        outcome(loss, situation)


def test_a_step_whose_networks_overflow_is_refused_and_not_found_fault_with(outcome) -> None:
    assert outcome(lambda s, t: s.float().mean(), "fp16 large").startswith("refused: (0, ['ce'")


def test_a_declared_smallest_batch_is_what_is_tried(outcome) -> None:
    assert outcome(lambda s, t: s.std(0).mean(), "smallest batch", smallest=2) == "runs"
    assert outcome(lambda s, t: torch.zeros(()), "soft labels, large") == "runs"


def test_a_method_that_takes_less_than_it_declares_is_found(monkeypatch) -> None:
    monkeypatch.setattr(distillers.get("RKD"), "check_batch", lambda self, size: None)
    with pytest.raises(AssertionError, match="RKD, cnn -> cnn, zeros: a batch below min_batch is not refused"):
        check_extreme("RKD", "cnn", "cnn", "zeros")
