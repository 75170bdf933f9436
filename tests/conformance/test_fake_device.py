"""Every registered method on a fake GPU: the host reads nothing, no devices are mixed, and what a replay would not see is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from each_method import each_method
from torch import Tensor

from kdbench import list_distillers
from kdbench.bench.methods.conformance import FAMILIES, students
from kdbench.bench.methods.device import check_device, host_reads
from kdbench.distillers.base import Batch, Distiller, Losses, distillers, register_distiller
from kdbench.errors import IncompatibleError
from kdbench.models.spec import ModelOutput

MATRIX = json.loads(Path(__file__).with_name("matrix.json").read_text(encoding="utf-8"))
#: captured anew in every epoch: they have a warm-up or a schedule
BY_EPOCH = {"CA_MKD", "CTKD", "DKD", "FCFD", "REVIEWKD", "RLD", "SDD_DKD", "SDD_NKD"}
#: never captured: the host draws what is computed
BY_STEP = {"FCFD"}
#: never captured: a decomposition of the library tells the host whether it worked
BY_LIBRARY = {"KDSVD"}
#: on every pair in the usual suite, in which all methods run on one pair of two families
ON_EVERY_PAIR = {"VANILLA", "KD", "CRD", "HCD", "DEIT", "SIMKD", "FCFD", "AB"}
OF_THE_HOST = torch.ones(10)

Loss = Callable[[Tensor, Batch], Tensor]


def check_reads(method: str, teacher: str, student: str) -> None:
    read = host_reads(method, teacher, student)
    assert ("epoch" in read) == (method in BY_EPOCH)
    assert bool(read & {"progress", "host_draw"}) == (method in BY_STEP)


@pytest.mark.parametrize("method", each_method(kinds=ON_EVERY_PAIR))
def test_runs_where_it_is_defined_and_reads_what_it_is_known_to_read(method: str) -> None:
    for teacher in FAMILIES:
        for student in students(method):
            expected = MATRIX[method][f"{teacher} -> {student}"]
            if expected == "runs":
                check_reads(method, teacher, student)
            else:
                assert check_device(method, teacher, student) == expected


@pytest.mark.parametrize("method", list_distillers())
def test_reads_what_it_is_known_to_read_on_a_pair_of_two_families(method: str) -> None:
    pairs = [pair.split(" -> ") for pair, outcome in MATRIX[method].items() if outcome == "runs"]
    check_reads(method, *max(pairs, key=lambda pair: pair[0] != pair[1]))
    assert distillers.get(method).capturable == (method not in BY_STEP | BY_LIBRARY)


def test_compositions() -> None:
    assert check_device("CRD+KD+PAT", "vit", "cnn") == "runs"
    assert host_reads("DKD+FCFD", "cnn", "cnn") == {"epoch", "host_draw"}
    with pytest.raises(IncompatibleError, match="FCFD is undefined"):
        host_reads("FCFD", "vit", "cnn")


@pytest.fixture
def outcome() -> Iterator[Callable[[Loss], str]]:
    """What the check says of a method whose loss is the given function of the student's logits."""

    def check(loss: Loss) -> str:
        class Tried(Distiller):
            """Whatever."""

            def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
                return {"tried": loss(student.logits, batch)}

        distillers.remove("tried")
        register_distiller("TRIED")(Tried)
        return check_device("TRIED", "cnn", "cnn")

    yield check
    distillers.remove("tried")


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, batch: z.sum() * z.detach().max().item(),
        lambda z, batch: z.sum() if z.sum() > 0 else z.mean(),
        lambda z, batch: z.sum() * batch.labels.tolist()[0],
        lambda z, batch: z.sum() * torch.equal(z, z),
        lambda z, batch: (z * F.one_hot(batch.labels)).sum(),
    ],
    ids=["item", "if", "tolist", "equal", "one_hot"],
)
def test_a_value_that_the_host_reads_is_found(outcome: Callable[[Loss], str], loss: Loss) -> None:
    with pytest.raises(AssertionError, match="TRIED on a GPU: DataDependent"):
        outcome(loss)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, batch: z[z > 0].sum(),
        lambda z, batch: z.sum() * batch.labels.unique().sum(),
        lambda z, batch: z.sum() * torch.bincount(batch.labels).sum(),
    ],
    ids=["mask", "unique", "bincount"],
)
def test_a_shape_that_depends_on_values_is_found(outcome: Callable[[Loss], str], loss: Loss) -> None:
    with pytest.raises(AssertionError, match="TRIED on a GPU: DynamicOutputShape"):
        outcome(loss)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, batch: (z + torch.ones(10)).sum(),
        lambda z, batch: (z + OF_THE_HOST).sum(),
        lambda z, batch: z[torch.arange(len(z)), batch.labels].sum(),
        lambda z, batch: z.sum() * z.new_tensor([2.0])[0],
        lambda z, batch: z.cpu().sum(),
        lambda z, batch: (z.sum(1) * batch.host_draw).sum(),
    ],
    ids=["new", "held", "index", "constant", "cpu", "host_draw"],
)
def test_two_devices_mixed_or_copied_between_are_found(outcome: Callable[[Loss], str], loss: Loss) -> None:
    with pytest.raises(AssertionError, match="TRIED on a GPU: "):
        outcome(loss)


def test_terms_of_the_host_and_terms_with_dimensions_are_found(outcome: Callable[[Loss], str]) -> None:
    with pytest.raises(AssertionError, match=r"term tried has shape \(\) on cpu"):
        outcome(lambda z, batch: torch.ones(()))
    with pytest.raises(AssertionError, match=r"term tried has shape \(10,\) on cuda"):
        outcome(lambda z, batch: z.sum(0))


@pytest.mark.parametrize(
    ("read", "loss"),
    [
        ("progress", lambda z, batch: z.sum() * batch.progress),
        ("host_draw", lambda z, batch: z.sum() * batch.host_draw.tolist()[0]),
        ("host_draw", lambda z, batch: z.sum() * batch.generator("coin", host=True).uniform(1)[0].item()),
    ],
)
def test_a_capturable_method_that_reads_what_changes_from_step_to_step_is_found(
    outcome: Callable[[Loss], str], read: str, loss: Loss
) -> None:
    with pytest.raises(AssertionError, match=f"TRIED reads {read} of its batches.*capturable = False"):
        outcome(loss)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, batch: z[torch.arange(len(z), device=z.device), batch.labels].sum() * 2.0,
        lambda z, batch: (z[:, 0] * batch.generator("noise").normal(1)[:, 0]).sum() * batch.epoch,
        lambda z, batch: z.masked_fill(z > 0, 0.0).sum(),
    ],
    ids=["gather", "noise", "masked"],
)
def test_a_method_that_stays_on_the_device_passes(outcome: Callable[[Loss], str], loss: Loss) -> None:
    assert outcome(loss) == "runs"
