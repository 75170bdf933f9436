"""Losses whose learned parts (projectors, gates, attention) stand in the vector, too; and those parts' own losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_tools import TOLERANCE, GoldenCase, cases
from torch import Tensor, nn
from torch.func import functional_call

from kdbench.distillers.mldr_kd import GatedFusion, dfra_loss

MODULES = Path(__file__).parent / "modules"
DIRECT = {"dfra__*": dfra_loss}
DIRECT_CASES = [(fn, path) for pattern, fn in DIRECT.items() for path in cases(pattern)]


@pytest.mark.parametrize(("fn", "path"), DIRECT_CASES, ids=lambda value: getattr(value, "stem", ""))
def test_loss_equals_its_original(fn: Any, path: Path) -> None:
    GoldenCase(path).check(fn)


def module_case(name: str) -> GoldenCase:
    return GoldenCase(MODULES / f"{name}.npz")


def call_with(case: GoldenCase, module: nn.Module, names: dict[str, str], *args: Any) -> Any:
    """``module(*args)`` in training mode with the vector's parameters, by the prefixes of their names there and here."""
    own = {}
    for key, value in case.inputs.items():
        for theirs, ours in names.items():
            if key.startswith(f"param.{theirs}"):
                own[ours + key.removeprefix(f"param.{theirs}")] = value
    assert set(own) == dict(module.named_parameters()).keys()
    return functional_call(module.double().train(), own, args)


def check(case: GoldenCase, loss: Tensor, **terms: Tensor) -> None:
    np.testing.assert_allclose(loss.item(), case.expected["loss"], **TOLERANCE)
    for name, value in terms.items():
        np.testing.assert_allclose(value.detach().numpy(), case.expected[f"term_{name}"], err_msg=name, **TOLERANCE)
    case.check_gradients(loss)


def test_mldr_kds_fusion() -> None:
    case = module_case("mldr_kd__msdf")
    fusion = GatedFusion(6, 8, 5)
    fused, weights = call_with(case, fusion, {"gate": "gate"}, case.inputs["descriptors"], case.inputs["stage_logits"])
    torch.testing.assert_close(weights.sum(1), torch.ones(4, 5, dtype=torch.float64))
    loss = dfra_loss(fused, case.inputs["teacher_logits"], **case.kwargs)
    check(case, loss, weights=weights, fused_logits=fused)
