"""Every registered method on parts of a batch: it is the same as on the whole, or declares that it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from each_method import each_method

from kdbench.bench.methods.parts import check_parts
from kdbench.distillers.base import Distiller, distillers, register_distiller

MATRIX = json.loads(Path(__file__).with_name("matrix.json").read_text(encoding="utf-8"))
#: methods that refuse parts on every pair, on some, and on none
COUPLED = {
    "CC",
    "CHSIM",
    "CRD",
    "DIFFKD",
    "DIST",
    "MLDR_KD",
    "MLKD",
    "PKT",
    "RKD",
    "RSD",
    "SEMCKD",
    "SP",
    "SRD",
    "SSKD",
    "TEKAP_F",
    "USKD",
}
NORMALISING = {"AFD", "CA_MKD", "FCFD", "FT", "HCD", "ICKD", "OFD", "PAT", "REVIEWKD", "SRRL", "UHKD"}
ON_SOME_PAIRS = {"FITNET", "OFA"}


def outcomes(method: str) -> set[str]:
    """What comes of the pairs on which a method runs, by the first words."""
    pairs = [pair.split(" -> ") for pair, outcome in MATRIX[method].items() if outcome == "runs"]
    return {check_parts(method, *pair).partition(" ")[0] for pair in pairs if "token" not in pair}


@pytest.mark.parametrize("method", each_method())
def test_parts_of_a_batch(method):
    expected = {"its"} if method in COUPLED | NORMALISING else {"same", "its"} if method in ON_SOME_PAIRS else {"same"}
    assert outcomes(method) == expected
    assert distillers.get(method).batch_coupled is (method in COUPLED)


def test_one_that_does_not_declare_it_is_found():
    class Undeclared(Distiller):
        uses_teacher = False

        def losses(self, student, teacher, batch):
            return {"ce": self.cross_entropy(student.logits, batch), "spread": student.logits.std(dim=0).mean()}

    register_distiller("Undeclared")(Undeclared)
    try:
        with pytest.raises(AssertionError, match="declare batch_coupled = True in the method's class"):
            check_parts("Undeclared", "cnn", "cnn")
    finally:
        distillers.remove("undeclared")


def test_state_that_depends_on_the_cut_is_found():
    class Counting(Distiller):
        uses_teacher = False

        def setup(self):
            self.register_buffer("mean", torch.zeros(()))

        def losses(self, student, teacher, batch):
            self.mean.mul_(0.9).add_(0.1 * student.logits.detach().mean())
            return {"ce": self.cross_entropy(student.logits, batch)}

    register_distiller("Counting")(Counting)
    try:
        with pytest.raises(AssertionError, match="the method's mean is another one"):
            check_parts("Counting", "mlp", "mlp")
    finally:
        distillers.remove("counting")
