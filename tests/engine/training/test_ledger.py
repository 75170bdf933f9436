"""Sums of loss terms, and the first step that was not finite, kept without reading one."""

from __future__ import annotations

import pytest
import torch

from kdbench.engine.training.ledger import Ledger

GOOD, BAD = torch.tensor(1.5), torch.tensor(float("nan"))


def test_it_remembers_the_first_bad_step_without_being_asked():
    ledger = Ledger(torch.device("cpu"))
    assert ledger.found() is None
    ledger.enter(0, {"ce": GOOD, "kd": GOOD}, GOOD, 4)
    ledger.enter(1, {"ce": GOOD, "kd": BAD}, BAD, 4)
    ledger.enter(2, {"ce": BAD, "kd": BAD}, BAD, 4)
    assert ledger.found() == (1, ["kd"])
    ledger.start()
    assert ledger.found() is None
    ledger.enter(0, {"ce": torch.tensor(3e38), "kd": torch.tensor(3e38)}, torch.tensor(float("inf")), 4)
    assert ledger.found() == (0, ["their sum"])


def test_sums_weigh_each_step_by_its_images():
    ledger = Ledger(torch.device("cpu"))
    ledger.enter(0, {"ce": torch.tensor(2.0), "kd": torch.tensor(1.0)}, torch.tensor(3.0), 4)
    ledger.enter(1, {"ce": torch.tensor(5.0), "kd": torch.tensor(7.0)}, torch.tensor(12.0), 2)
    assert {name: float(value) for name, value in ledger.sums().items()} == {"ce": 18.0, "kd": 18.0}
    assert {name: float(value) for name, value in ledger.last().items()} == {"ce": 5.0, "kd": 7.0}
    ledger.start()
    assert float(ledger.sums()["ce"]) == 0.0


def test_terms_may_differ_from_step_to_step():
    ledger = Ledger(torch.device("cpu"))
    ledger.enter(0, {"ce": GOOD}, GOOD, 2)
    ledger.enter(1, {"ce": GOOD, "late": BAD}, BAD, 2)
    ledger.enter(2, {"ce": BAD}, BAD, 2)
    assert ledger.found() == (1, ["late"])
    sums = ledger.sums()
    assert float(sums["late"]) != float(sums["late"])
    ledger.start()
    ledger.enter(0, {"ce": GOOD}, GOOD, 2)
    ledger.enter(1, {"ce": GOOD, "late": GOOD}, GOOD, 2)
    assert float(ledger.sums()["ce"]) == 6.0


def test_a_gpu_is_asked_now_and_then():
    ledger = Ledger(torch.device("meta"))
    assert ledger.interval == 50
    assert [step for step in range(120) if ledger.due(step)] == [49, 99]


def test_its_tensors_stay_where_they_are():
    """A captured step writes where it wrote when it was recorded."""
    ledger = Ledger(torch.device("cpu"))
    ledger.enter(0, {"ce": GOOD}, GOOD, 2)
    before = [tensor.data_ptr() for tensor in (ledger.sums()["ce"], ledger.last()["ce"])]
    number = torch.tensor(1)
    ledger.start()
    ledger.enter(number, {"ce": BAD}, BAD, 2)
    assert [tensor.data_ptr() for tensor in (ledger.sums()["ce"], ledger.last()["ce"])] == before
    assert ledger.found() == (1, ["ce"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_terms_of_any_type(dtype):
    ledger = Ledger(torch.device("cpu"))
    ledger.enter(0, {"ce": GOOD.to(dtype)}, GOOD, 3)
    assert float(ledger.sums()["ce"]) == 4.5
