"""Baseline losses against values, terms and gradients of their original implementations, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_tools import TOLERANCE, GoldenCase, cases

from kdbench.distillers.at import at_loss
from kdbench.distillers.catkd import cat_kd_loss
from kdbench.distillers.cc import cc_loss
from kdbench.distillers.crd import crd_loss
from kdbench.distillers.ctkd import ctkd_lambda, ctkd_loss
from kdbench.distillers.fcfd import fcfd_loss
from kdbench.distillers.fitnet import fitnet_loss
from kdbench.distillers.lskd import lskd_dkd_loss, lskd_loss
from kdbench.distillers.ofd import ofd_loss, ofd_margin
from kdbench.distillers.pat import pat_feature_loss
from kdbench.distillers.reviewkd import review_kd_loss
from kdbench.distillers.rkd import rkd_loss
from kdbench.distillers.rld import rld_loss
from kdbench.distillers.rsd import rsd_loss
from kdbench.distillers.sdd import sdd_kd_loss, sdd_pool
from kdbench.distillers.sdd_dkd import sdd_dkd_loss
from kdbench.distillers.tekap import tekap_loss
from kdbench.distillers.tekap_f import tekap_feature_loss
from kdbench.distillers.wttm import wttm_loss

DIRECT = {
    "at__*": at_loss,
    "cc__*": cc_loss,
    "ctkd__*": ctkd_loss,
    "fcfd__*": fcfd_loss,
    "fitnet__*": fitnet_loss,
    "lskd__t*": lskd_loss,
    "lskd__dkd*": lskd_dkd_loss,
    "pat__*": pat_feature_loss,
    "review_kd__*": review_kd_loss,
    "rkd__*": rkd_loss,
    "rld__*": rld_loss,
    "rsd__*": rsd_loss,
    "sdd__kd*": sdd_kd_loss,
    "sdd__dkd*": sdd_dkd_loss,
    "wttm__*": wttm_loss,
}
DIRECT_CASES = [(fn, path) for pattern, fn in DIRECT.items() for path in cases(pattern)]


def check_state(case: GoldenCase, state: dict[str, torch.Tensor]) -> None:
    """Compare every ``out_<name>`` of the file with what the call left behind."""
    names = [key[len("out_") :] for key in case.expected if key.startswith("out_")]
    assert names
    for name in names:
        np.testing.assert_allclose(state[name].numpy(), case.expected[f"out_{name}"], err_msg=name, **TOLERANCE)


@pytest.mark.parametrize(("fn", "path"), DIRECT_CASES, ids=lambda value: getattr(value, "stem", ""))
def test_loss_equals_its_original(fn: Any, path: Path) -> None:
    GoldenCase(path).check(fn)


@pytest.mark.parametrize("path", cases("cat_kd__*"), ids=lambda path: path.stem)
def test_cat_kd(path: Path) -> None:
    case = GoldenCase(path)
    maps = {f"{role}_cams": case.inputs[f"{role}_maps"][0] for role in ("student", "teacher")}
    case.check(cat_kd_loss, **maps)


@pytest.mark.parametrize("path", cases("ctkd__*"), ids=lambda path: path.stem)
def test_ctkd_schedule(path: Path) -> None:
    schedule = GoldenCase(path).expected["term_schedule"]
    np.testing.assert_allclose([ctkd_lambda(epoch, 10) for epoch in range(len(schedule))], schedule, **TOLERANCE)


@pytest.mark.parametrize("path", cases("crd__*"), ids=lambda path: path.stem)
def test_crd_and_its_memories(path: Path) -> None:
    case = GoldenCase(path)
    case.check(crd_loss)
    check_state(case, case.inputs)


@pytest.mark.parametrize("path", cases("tekap__t*"), ids=lambda path: path.stem)
def test_tekap_logits(path: Path) -> None:
    case = GoldenCase(path)
    assert len(case.inputs["noise"]) == case.kwargs["num_augmented"]
    case.check(tekap_loss, noises=case.inputs["noise"])


@pytest.mark.parametrize("path", cases("tekap__feature*"), ids=lambda path: path.stem)
def test_tekap_features_and_their_memories(path: Path) -> None:
    case = GoldenCase(path)
    z = {name: torch.tensor(-1.0, dtype=torch.float64) for name in ("z_student", "z_teacher")}
    case.check(tekap_feature_loss, **z)
    check_state(case, {**case.inputs, **z})


@pytest.mark.parametrize("path", cases("ofd__*"), ids=lambda path: path.stem)
def test_ofd_and_its_margins(path: Path) -> None:
    case = GoldenCase(path)
    margins = [ofd_margin(w, b) for w, b in zip(case.inputs["bn_weight"], case.inputs["bn_bias"])]
    for ours, expected in zip(margins, case.inputs["margin"], strict=True):
        np.testing.assert_allclose(ours.numpy(), expected.numpy(), **TOLERANCE)
    case.check(ofd_loss, margins=margins)


@pytest.mark.parametrize("path", cases("sdd__pool*"), ids=lambda path: path.stem)
def test_sdd_pool(path: Path) -> None:
    case = GoldenCase(path)
    pooled = sdd_pool(case.inputs["student_maps"][0], scales=case.kwargs["scales"])
    np.testing.assert_allclose(pooled.detach().numpy(), case.expected["term_pooled"], **TOLERANCE)
    loss = (pooled * case.inputs["output_weight"]).sum()
    np.testing.assert_allclose(loss.item(), case.expected["loss"], **TOLERANCE)
    case.check_gradients(loss)
