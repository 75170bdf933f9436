"""ViTKD and DiffKD with their learned parts against values, terms and gradients of their originals, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_tools import FOLDER, TOLERANCE, GoldenCase

from kdbench.distillers.diffkd import diffkd_loss
from kdbench.distillers.parts.networks.diffusion import Refinement
from kdbench.distillers.vitkd import TokenGeneration, vitkd_loss

MODULES = FOLDER.with_name("modules")


def check(case: GoldenCase, loss: torch.Tensor, terms: dict[str, torch.Tensor]) -> None:
    np.testing.assert_allclose(loss.detach().numpy(), case.expected["loss"], **TOLERANCE)
    for name, value in terms.items():
        np.testing.assert_allclose(value.detach().numpy(), case.expected[f"term_{name}"], err_msg=name, **TOLERANCE)
    case.check_gradients(loss)


def on_grid(tokens: torch.Tensor) -> torch.Tensor:
    return tokens.transpose(1, 2).unflatten(2, (3, 3))


def test_vitkd() -> None:
    case = GoldenCase(MODULES / "vitkd__widths.npz")
    given, module = case.inputs, TokenGeneration([(4, 6), (4, 6)], (4, 6)).double()
    weights = {name: given[f"param.{name}"] for name, _ in module.named_parameters()}
    low = [[on_grid(given[f"{role}_low"][:, block]) for block in (0, 1)] for role in ("student", "teacher")]
    masked = (low[0], on_grid(given["student_high"]), given["noise"], case.kwargs["mask_ratio"])
    made = torch.func.functional_call(module, weights, masked)
    loss, terms = vitkd_loss(
        made[0], low[1], made[1], on_grid(given["teacher_high"]), made[2], **case.kwargs, return_terms=True
    )
    check(case, loss, terms)


@pytest.mark.parametrize("name", ["feature_ae", "logits"])
def test_diffkd(name: str) -> None:
    case = GoldenCase(MODULES / f"diffkd__{name}.npz")
    given, kwargs = case.inputs, case.kwargs
    channels = given["student_map"].shape[1], given["teacher_map"].shape[1]
    module = Refinement(*channels, kernel=kwargs["kernel_size"], width=kwargs["ae_channels"] or 0).double()
    module.share = module.share.float()  # as it is in the release, and cast where it is used
    weights = {name: given[f"param.{name}"] for name, _ in module.named_parameters()}
    drawn = (given["noise_denoise"], given["noise_train"], given["timesteps"])
    refined, target, terms = torch.func.functional_call(
        module, weights, (given["student_map"], given["teacher_map"], *drawn)
    )
    kd = diffkd_loss(refined, target, temperature=kwargs["temperature"])
    check(case, kd + sum(terms.values()), {"kd": kd, **terms})
