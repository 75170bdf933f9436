"""MGD against values and gradients of cls_KD, in float64."""

from __future__ import annotations

import numpy as np
import torch
from golden_tools import FOLDER, TOLERANCE, GoldenCase

from kdbench.distillers.mgd import Generation, mgd_loss


def test_mgd_with_its_generation() -> None:
    case = GoldenCase(FOLDER.with_name("modules") / "mgd__align.npz")
    student, teacher = case.inputs["student_maps"][0], case.inputs["teacher_maps"][0]
    module = Generation(student.shape[1], teacher.shape[1]).double()
    weights = {name: case.inputs[f"param.{name}"] for name, _ in module.named_parameters()}
    given = (student, case.inputs["noise"].flatten(1), case.kwargs["mask_ratio"])
    loss = mgd_loss(torch.func.functional_call(module, weights, given), teacher)
    np.testing.assert_allclose(loss.detach().numpy(), case.expected["loss"], **TOLERANCE)
    case.check_gradients(loss)
