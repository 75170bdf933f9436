"""Losses whose learned parts (projectors, gates, attention) stand in the vector, too; and those parts' own losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_tools import TOLERANCE, GoldenCase, cases
from torch import Tensor, nn
from torch.func import functional_call

from kdbench.distillers.afd import StageAttention, afd_loss
from kdbench.distillers.chsim import chsim_loss
from kdbench.distillers.ickd import Embedding, ickd_loss
from kdbench.distillers.mldr_kd import GatedFusion, dfra_loss
from kdbench.distillers.norm import norm_loss
from kdbench.distillers.semckd import StageMatching, semckd_loss
from kdbench.distillers.simkd import simkd_loss
from kdbench.distillers.srrl import Connector, srrl_loss
from kdbench.models.feature_model.adapted import Projector

MODULES = Path(__file__).parent / "modules"
DIRECT = {
    "afd__*": afd_loss,
    "chsim__*": chsim_loss,
    "dfra__*": dfra_loss,
    "ickd__*": ickd_loss,
    "norm__*": norm_loss,
    "semckd__*": semckd_loss,
    "simkd__*": simkd_loss,
    "srrl__*": srrl_loss,
}
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


def classified(case: GoldenCase, vector: Tensor) -> Tensor:
    return F.linear(vector, case.inputs["teacher_fc_weight"], case.inputs["teacher_fc_bias"])


def test_simkds_projector() -> None:
    case = module_case("simkd__projector")
    (student,), (teacher,) = case.inputs["student_maps"], case.inputs["teacher_maps"]
    projector = Projector(student.shape[1], teacher.shape[1], tuple(teacher.shape[2:]), case.kwargs["factor"])
    projected = call_with(case, projector, {"transfer": "transfer"}, student)
    check(case, simkd_loss(projected, teacher), logits=classified(case, projected.mean((2, 3))))


def test_srrls_connector() -> None:
    case = module_case("srrl__conv")
    (student,), (teacher,) = case.inputs["student_maps"], case.inputs["teacher_maps"]
    connector = Connector(student.shape[1], teacher.shape[1])
    vector = call_with(case, connector, {"Connectors.": ""}, student).mean((2, 3))
    told = teacher.mean((2, 3))
    loss, terms = srrl_loss(
        vector, classified(case, vector), told, classified(case, told), **case.kwargs, return_terms=True
    )
    check(case, loss, **terms)


def test_ickds_embedding() -> None:
    case = module_case("ickd__embed")
    (student,), (teacher,) = case.inputs["student_maps"], case.inputs["teacher_maps"]
    names = {"embed_s.conv2d.": "0.", "embed_s.l2norm.": "1."}
    embedded = call_with(case, Embedding(student.shape[1], teacher.shape[1]), names, student)
    check(case, ickd_loss([embedded], [teacher]))


def test_afds_attention() -> None:
    case = module_case("afd__attention")
    student, teacher = case.inputs["student_maps"], case.inputs["teacher_maps"]
    widths = [[x.shape[1] for x in maps] for maps in (student, teacher)]
    names = {
        "attention.linear_trans_s.key_layer.": "keys.",
        "attention.linear_trans_s.bilinear.": "mix.",
        "attention.linear_trans_t.query_layer.": "queries.",
        "attention.p_t": "teacher_places",
        "attention.p_s": "student_places",
    }
    attention = call_with(case, StageAttention(*widths, case.kwargs["qk_dim"]), names, student, teacher)
    torch.testing.assert_close(attention.sum(2), torch.ones_like(attention[..., 0]))
    check(case, afd_loss(student, teacher, attention))


def test_semckds_attention() -> None:
    case = module_case("semckd__attention")
    student, teacher = case.inputs["student_maps"], case.inputs["teacher_maps"]
    widths = [[x.shape[1] for x in maps] for maps in (student, teacher)]
    matching = StageMatching(*widths, batch=4, factor=case.kwargs["factor"])
    names = {
        f"{theirs}_{i}.linear{j}.": f"{ours}.{i}.{2 * (j - 1)}."
        for theirs, ours in (("query", "queries"), ("key", "keys"))
        for i in range(2)
        for j in (1, 2)
    }
    names |= {f"regressor{i}{j}.regressor.": f"projections.{2 * i + j}." for i in range(2) for j in range(2)}
    own, told, weight = call_with(case, matching, names, student, teacher)
    check(case, semckd_loss(own, told, weight), weight=weight)
