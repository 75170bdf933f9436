"""Compare a loss function with a golden vector: value, terms and gradients, in float64."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "losses"
TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}


class GoldenCase:
    """One vector: ``inputs`` (leaf tensors that require a gradient where the file has one), ``expected`` and ``kwargs``.

    ``x_0 ... x_n`` in the file become the list ``inputs["x"]``.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
        self.meta = json.loads(str(arrays.pop("meta")))
        self.kwargs: dict[str, Any] = self.meta["kwargs"]
        self.expected = {k: v for k, v in arrays.items() if k == "loss" or k.startswith(("grad_", "term_", "out_"))}
        self.inputs: dict[str, Any] = {}
        for key, value in arrays.items():
            if key in self.expected:
                continue
            tensor = torch.as_tensor(value).clone()
            if f"grad_{key}" in self.expected:
                tensor.requires_grad_(True)
            base, _, number = key.rpartition("_")
            if number.isdigit() and base:
                self.inputs.setdefault(base, []).append(tensor)
            else:
                self.inputs[key] = tensor

    def call(self, fn: Any, **extra: Any) -> Any:
        """``fn`` with the inputs and keywords that its signature lists, and ``return_terms=True``."""
        known = inspect.signature(fn).parameters
        arguments = {k: v for k, v in {**self.inputs, **self.kwargs, **extra}.items() if k in known}
        return fn(**arguments, return_terms=True)

    def check_gradients(self, loss: Tensor, skip: tuple[str, ...] = ()) -> None:
        """Backward from ``loss`` and compare each ``grad_<input>`` of the file but those in ``skip``; no gradient counts as
        zeros."""
        loss.backward()
        checked = 0
        for key, value in self.expected.items():
            if not key.startswith("grad_"):
                continue
            name = key[len("grad_") :]
            base, _, number = name.rpartition("_")
            tensor = self.inputs.get(name)
            if tensor is None and number.isdigit() and base in self.inputs:
                tensor = self.inputs[base][int(number)]
            if tensor is None or name in skip:
                continue
            gradient = np.zeros_like(value) if tensor.grad is None else tensor.grad.numpy()
            np.testing.assert_allclose(gradient, value, err_msg=key, **TOLERANCE)
            checked += 1
        assert checked, "the vector holds no gradient that could be compared"

    def check(self, fn: Any, skip: tuple[str, ...] = (), **extra: Any) -> dict[str, Tensor]:
        """Value, every term of the same name, gradients; returns the terms."""
        loss, terms = self.call(fn, **extra)
        np.testing.assert_allclose(loss.detach().numpy(), self.expected["loss"], **TOLERANCE)
        for name, value in terms.items():
            if f"term_{name}" in self.expected:
                np.testing.assert_allclose(
                    value.detach().numpy(), self.expected[f"term_{name}"], err_msg=name, **TOLERANCE
                )
        self.check_gradients(loss, skip)
        return terms


def cases(*patterns: str) -> list[Path]:
    """Files of ``losses/`` that fit the patterns; an empty answer is an error, so that no test passes by finding none."""
    found = sorted({path for pattern in patterns for path in FOLDER.glob(f"{pattern}.npz")})
    if not found:
        raise FileNotFoundError(f"no golden vector fits {patterns}")
    return found
