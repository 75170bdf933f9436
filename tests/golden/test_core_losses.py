"""Every core golden vector: value, terms and gradients of a loss equal the original implementation's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_tools import TOLERANCE, GoldenCase, cases

from kdbench import functional


@pytest.mark.parametrize("path", cases("kd__*", "dkd__*", "dist__*", "ldrld__*"), ids=lambda p: p.stem)
def test_logit_losses(path):
    case = GoldenCase(path)
    case.check(getattr(functional, case.meta["function"].split("(")[0]))


@pytest.mark.parametrize("path", cases("ofa__*"), ids=lambda p: p.stem)
def test_ofa(path):
    case = GoldenCase(path)
    case.check(functional.ofa_loss, skip=("stage_logits",))
    stages, logits = case.inputs["stage_logits"], case.inputs["teacher_logits"]
    per_stage = torch.stack([functional.ofa_loss(z, logits, case.inputs["target"], **case.kwargs) for z in stages])
    np.testing.assert_allclose(per_stage.detach(), case.expected["term_stages"], **TOLERANCE)
    stages.grad = None
    per_stage.sum().backward()
    np.testing.assert_allclose(stages.grad, case.expected["grad_stage_logits"], **TOLERANCE)


@pytest.mark.parametrize("path", cases("hcd_orth__*", "hcd_sub_ce__*", "hcd_sub_kd__*"), ids=lambda p: p.stem)
def test_hcd(path):
    case = GoldenCase(path)
    case.check(getattr(functional, case.meta["function"].split("(")[0]))


@pytest.mark.parametrize("path", cases("hcd_sub_kd__*"), ids=lambda p: p.stem)
def test_hcd_without_detaching(path):
    case = GoldenCase(path)
    loss, _ = case.call(functional.sub_logit_kd_loss, detach_target=False)
    loss.backward()
    np.testing.assert_allclose(case.inputs["sub_logits"].grad, case.expected["grad_sub_logits_nodetach"], **TOLERANCE)
