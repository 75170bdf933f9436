"""Trajectories of the originals' own optimisers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kdbench.engine.training.optimiser.dot import DOT

FILES = sorted((Path(__file__).parent / "optim").glob("dot__*.npz"))


def test_all_vectors_are_here():
    assert [file.stem for file in FILES] == ["dot__both_5_steps", "dot__roles_lr_drop"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_dot_moves_as_the_original(file):
    with np.load(file) as stored:
        arrays = {key: torch.from_numpy(stored[key]) for key in stored.files if key != "meta"}
        options = json.loads(str(stored["meta"]))["kwargs"]
    rates = options["lr_per_step"]
    parameters = [nn.Parameter(arrays[f"param_{i}"].clone()) for i in range(len(options["role"]))]
    optimizer = DOT(parameters, lr=1.0, **{key: options[key] for key in ("momentum", "delta", "weight_decay")})
    for step, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        for kind in ("kd", "task"):
            for i, parameter in enumerate(parameters):
                gradient = arrays.get(f"grad_{kind}_{step}_{i}")
                parameter.grad = None if gradient is None else gradient.clone()
            if kind == "kd":
                optimizer.exchange()
        optimizer.step()
        for i, parameter in enumerate(parameters):
            torch.testing.assert_close(parameter.data, arrays[f"param_{i}_after_{step + 1}"], rtol=1e-9, atol=0)
    for i, (parameter, twin) in enumerate(optimizer.pairs):
        for holder, key in ((parameter, f"momentum_buffer_{i}"), (twin, f"momentum_kd_buffer_{i}")):
            assert (key in arrays) is bool(optimizer.state.get(holder))
            if key in arrays:
                torch.testing.assert_close(optimizer.state[holder]["momentum_buffer"], arrays[key], rtol=1e-9, atol=0)
