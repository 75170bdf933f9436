"""CRD's constants Z: set by the first step of a run, known to the host from then on, and after a resume."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from method_fixtures import build, make_batch, make_spec, random_output, total
from torch import Tensor

from kdbench.distillers.base import Distiller
from kdbench.distillers.crd import crd_loss
from kdbench.distillers.parts import contrast

SPEC = make_spec("cnn4")


@pytest.fixture
def set_again(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every Z that is set."""
    calls: list[int] = []
    whole = contrast._mean_score

    def counted(*args: Any) -> Tensor:
        calls.append(1)
        return whole(*args)

    monkeypatch.setattr(contrast, "_mean_score", counted)
    return calls


def run(method: Distiller, step: int) -> Tensor:
    student = random_output(SPEC, 8, seed=2 * step, grad=True)
    return total(method.losses(student, random_output(SPEC, 8, seed=2 * step + 1), make_batch(8, seed=step))).detach()


@pytest.mark.parametrize("name", ["CRD", "TEKAP_F"])
def test_z_is_set_in_the_first_step_alone_and_a_resumed_run_goes_on_with_it(name: str, set_again: list[int]) -> None:
    method = build(name, SPEC, SPEC).double()
    run(method, 0)
    assert len(set_again) == 2  # the student's and the teacher's
    saved = copy.deepcopy(method.state_dict())
    resumed = build(name, SPEC, SPEC).double()
    resumed.load_state_dict(saved)
    assert torch.equal(run(method, 1), run(resumed, 1))
    assert len(set_again) == 2
    for z in ("z_student", "z_teacher"):
        assert torch.equal(getattr(method, z), saved[z])
        assert torch.equal(getattr(resumed, z), saved[z])


def test_a_state_from_before_the_first_step_leaves_z_to_be_set(set_again: list[int]) -> None:
    method = build("CRD", SPEC, SPEC).double()
    fresh = copy.deepcopy(method.state_dict())
    first = run(method, 0)
    method.load_state_dict(fresh)
    assert torch.equal(run(method, 0), first)
    assert len(set_again) == 4


def test_a_step_that_fails_does_not_count_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    method, alone = build("CRD", SPEC, SPEC).double(), build("CRD", SPEC, SPEC).double()
    with monkeypatch.context() as patched:
        patched.setattr(contrast, "_mean_score", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(method, 0)
    assert torch.equal(run(method, 0), run(alone, 0))


@pytest.mark.parametrize("told", [None, False])
def test_the_sign_of_z_tells_where_the_host_does_not(told: bool | None) -> None:
    def loss(z: float, z_is_set: bool | None) -> tuple[Tensor, list[Tensor]]:
        g = torch.Generator().manual_seed(0)
        unit = [F.normalize(torch.randn(n, 6, generator=g, dtype=torch.float64), dim=1) for n in (4, 4, 20, 20)]
        constants = [torch.tensor(z, dtype=torch.float64) for _ in range(2)]
        value = crd_loss(
            unit[0], unit[1], torch.arange(4), torch.arange(20).view(4, 5), *unit[2:], temperature=0.07, momentum=0.5,
            z_student=constants[0], z_teacher=constants[1], num_data=20, z_is_set=z_is_set,
        )  # fmt: skip
        return value, constants

    value, constants = loss(-1.0, told)
    assert all(z > 0 for z in constants)
    assert not torch.equal(loss(15.0, None)[0], value)
    assert all(torch.equal(a, b) for a, b in zip(loss(15.0, None)[1], loss(15.0, True)[1]))
    assert torch.equal(loss(15.0, None)[0], loss(15.0, True)[0])
