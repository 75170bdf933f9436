"""NST, PKT, SP, VID and KDSVD against values, terms and gradients of mdistiller and RepDistiller, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_tools import FOLDER, TOLERANCE, GoldenCase, cases

from kdbench.distillers.kdsvd import kdsvd_loss
from kdbench.distillers.nst import nst_loss
from kdbench.distillers.parts.singular_vectors import as_matrices, leading_vectors
from kdbench.distillers.parts.stage_pairs import same_grid
from kdbench.distillers.pkt import pkt_loss
from kdbench.distillers.sp import sp_loss
from kdbench.distillers.vid import _regressor, vid_loss

DIRECT = {"kdsvd__*": kdsvd_loss, "nst__*": nst_loss, "pkt__*": pkt_loss, "sp__*": sp_loss, "vid__*": vid_loss}
DIRECT_CASES = [(fn, path) for pattern, fn in DIRECT.items() for path in cases(pattern)]


@pytest.mark.parametrize(("fn", "path"), DIRECT_CASES, ids=lambda value: getattr(value, "stem", ""))
def test_loss_equals_its_original(fn: Any, path: Path) -> None:
    GoldenCase(path).check(fn)


@pytest.mark.parametrize("path", cases("kdsvd__*"), ids=lambda path: path.stem)
def test_singular_vectors_of_the_teacher(path: Path) -> None:
    case = GoldenCase(path)
    for teacher, expected in zip(case.inputs["teacher_maps"], case.inputs["teacher_v"], strict=True):
        vectors, _ = leading_vectors(as_matrices(teacher, case.kwargs["layout"]), case.kwargs["k"])
        np.testing.assert_allclose(vectors.abs().numpy(), expected.abs().numpy(), **TOLERANCE)


def test_vid_with_its_regressors() -> None:
    case = GoldenCase(FOLDER.with_name("modules") / "vid__two_stages_resize.npz")
    means, modules = [], []
    for i, (student, teacher) in enumerate(zip(case.inputs["student_maps"], case.inputs["teacher_maps"], strict=True)):
        weights = [case.inputs[f"weight{number}"][i] for number in (1, 2, 3)]
        modules.append(_regressor(student.shape[1], teacher.shape[1]).double())
        names = [name for name, _ in modules[-1].named_parameters()]
        pooled = same_grid(student, teacher)[0]
        means.append(torch.func.functional_call(modules[-1], dict(zip(names, weights, strict=True)), (pooled,)))
    loss, terms = vid_loss(
        means, case.inputs["teacher_maps"], case.inputs["log_scales"], eps=case.kwargs["eps"], return_terms=True
    )
    np.testing.assert_allclose(loss.detach().numpy(), case.expected["loss"], **TOLERANCE)
    for name, value in terms.items():
        np.testing.assert_allclose(value.detach().numpy(), case.expected[f"term_{name}"], err_msg=name, **TOLERANCE)
    case.check_gradients(loss)
