"""Reading and writing weights: every accepted layout round trips."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kdbench.errors import ModelError
from kdbench.models.checkpoints import file_sha256, read_weights
from kdbench.models.cifar import CIFAR_MODELS

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    torch.manual_seed(0)
    return CIFAR_MODELS["resnet8"](num_classes=5).state_dict()


def assert_same(found: State, expected: State) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


ARGS = argparse.Namespace(lr=0.1, model="resnet8", hook=None, schedule=[1, 2])
LAYOUTS: dict[str, tuple[Callable[[State], Any], dict[str, Any]]] = {
    "plain": (lambda s: s, {}),
    "mdistiller": (
        lambda s: {"model": s, "epoch": 240, "best_acc": torch.tensor(0.5)},
        {"epoch": 240, "best_acc": 0.5},
    ),
    "repdistiller": (
        lambda s: {"opt": ARGS, "model": s, "optimizer": {"state": {0: {"m": torch.ones(2)}}}},
        {"opt": {"lr": 0.1, "model": "resnet8", "hook": None}},
    ),
    "timm": (
        lambda s: {"epoch": 3, "arch": "resnet8", "state_dict": s, "state_dict_ema": {k: v * 0 for k, v in s.items()}},
        {"epoch": 3, "arch": "resnet8"},
    ),
    "data parallel": (lambda s: {"model": prefixed(s, "module.")}, {}),
    "distiller": (lambda s: prefixed(s, "module.student."), {}),
    "wrapper": (lambda s: {"state_dict": prefixed(s, "backbone.")}, {}),
    "compiled": (lambda s: prefixed(s, "_orig_mod."), {}),
    "with facts": (lambda s: {**s, "epoch": 7}, {"epoch": 7}),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_layouts_round_trip(tmp_path: Path, state: State, layout: str, zipped: bool) -> None:
    wrap, metadata = LAYOUTS[layout]
    torch.save(wrap(state), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found, facts = read_weights(tmp_path / "w.pth")
    assert_same(found, state)
    assert facts == metadata


def test_moving_average_is_taken_on_request(tmp_path: Path, state: State) -> None:
    ema = {key: value + 1 for key, value in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": ema}, tmp_path / "both.pt")
    torch.save({"state_dict": state}, tmp_path / "one.pt")
    torch.save({"state_dict_ema": ema}, tmp_path / "ema.pt")
    assert_same(read_weights(tmp_path / "both.pt")[0], state)
    assert_same(read_weights(tmp_path / "both.pt", use_ema=True)[0], ema)
    assert_same(read_weights(tmp_path / "ema.pt")[0], ema)
    with pytest.raises(ModelError, match=r"one\.pt holds no moving average .*, only state_dict"):
        read_weights(tmp_path / "one.pt", use_ema=True)


def test_which_of_both_was_taken_is_logged(tmp_path: Path, state: State, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "both.pt")
    with caplog.at_level("INFO", "kdbench"):
        read_weights(tmp_path / "both.pt")
    assert "state_dict and state_dict_ema; taking state_dict" in caplog.text


def test_of_a_saved_distiller_the_student_is_taken(tmp_path: Path, state: State) -> None:
    """As mdistiller's ``best`` holds them, the method's own modules among them."""
    teacher = {key: value + 1 for key, value in state.items()}
    whole = {**prefixed(state, "module.student."), **prefixed(teacher, "module.teacher.")}
    torch.save({"model": {**whole, "module.connectors.0.weight": torch.ones(2)}}, tmp_path / "best.pth")
    assert_same(read_weights(tmp_path / "best.pth")[0], state)


def test_a_prefix_that_some_keys_lack_stays(tmp_path: Path) -> None:
    mixed = {"student.fc.weight": torch.ones(2), "fc.weight": torch.ones(2)}
    torch.save(mixed, tmp_path / "w.pt")
    assert_same(read_weights(tmp_path / "w.pt")[0], mixed)


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_foreign_safetensors(tmp_path: Path, state: State, name: str) -> None:
    save_file(state, tmp_path / name, metadata={"format": "pt"})
    found, facts = read_weights(tmp_path / name)
    assert_same(dict(sorted(found.items())), dict(sorted(state.items())))
    assert facts == {"format": "pt"}


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 700_000)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"abc" * 700_000).hexdigest()
    with pytest.raises(ModelError, match="does not exist"):
        file_sha256(tmp_path / "missing")
