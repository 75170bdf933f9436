"""Reading and writing weights: every accepted layout round trips."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.networks.cifar import CIFAR_MODELS
from kdbench.models.weights.containers import EMA_KEYS, PREFIXES, STATE_KEYS, WRAPPERS
from kdbench.models.weights.export import save_student
from kdbench.models.weights.read import file_sha256, read_weights

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
    "mdistiller, finished": (
        lambda s: {
            "model": s,
            "epoch": 240,
            "best_acc": np.float64(76.5),
            "lr": [np.float64(0.1)],
            "seed": np.int64(3),
        },
        {"epoch": 240, "best_acc": 76.5, "seed": 3},
    ),
    "arrays beside": (lambda s: {"state_dict": s, "confusion": np.arange(6.0).reshape(2, 3)}, {}),
    "arrays as weights": (lambda s: {"model": {k: v.numpy() for k, v in s.items()}}, {}),
    "several wrappers": (lambda s: {"net": prefixed(s, "module.model._orig_mod.timm_model.")}, {}),
    "sharded": (
        lambda s: {"model_state_dict": {k.replace("conv", "_fsdp_wrapped_module.conv"): v for k, v in s.items()}},
        {},
    ),
    "compiled inside": (
        lambda s: prefixed({k.replace("layer1.", "layer1._orig_mod."): v for k, v in s.items()}, "module."),
        {},
    ),
    "nested containers": (lambda s: {"network": {"student": {"weights": s}, "optimizer": {"state": {}}}}, {}),
    "average of timm": (lambda s: {"ema": {"module": prefixed(s, "module.")}, "epoch": 1}, {"epoch": 1}),
    "options beside": (lambda s: {**s, "meta": {"epoch": 3}}, {}),
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


@pytest.mark.parametrize("key", [*STATE_KEYS, *EMA_KEYS])
def test_every_container(tmp_path: Path, state: State, key: str) -> None:
    torch.save({key: state, "epoch": 1, "optimizer": {"state": {0: {"m": torch.ones(2)}}}}, tmp_path / "w.pth")
    found, facts = read_weights(tmp_path / "w.pth")
    assert_same(found, state)
    assert facts == {"epoch": 1}


@pytest.mark.parametrize("prefix", [*PREFIXES, *WRAPPERS])
@pytest.mark.parametrize("outer", ["", "module.", "model.module."])
def test_every_prefix_in_any_nesting(tmp_path: Path, state: State, prefix: str, outer: str) -> None:
    torch.save(prefixed(state, outer + prefix), tmp_path / "w.pth")
    assert_same(read_weights(tmp_path / "w.pth")[0], state)


def test_a_networks_own_prefix_stays(tmp_path: Path) -> None:
    """A network of one part called ``net``, wrapped once and plain, beside one that has the same part bare."""
    own = {"net.0.weight": torch.ones(2, 2), "net.0.bias": torch.ones(2)}
    inner = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2)}
    for saved in (own, prefixed(own, "module.")):
        torch.save(saved, tmp_path / "w.pth")
        assert_same(read_weights(tmp_path / "w.pth", needed=own)[0], own)
        assert_same(read_weights(tmp_path / "w.pth", needed=inner)[0], inner)
    save_student(tmp_path / "w.safetensors", nn.ModuleDict({"net": nn.Linear(2, 2)}), {"name": "mine"})
    assert sorted(read_weights(tmp_path / "w.safetensors")[0]) == ["net.bias", "net.weight"]


def test_of_several_containers_the_fitting_one_is_taken_or_none(tmp_path: Path, state: State) -> None:
    other = CIFAR_MODELS["resnet14"](num_classes=5).state_dict()
    moved = {key: value + 1 for key, value in state.items()}
    torch.save({"net": other, "model": state}, tmp_path / "two.pth")
    torch.save({"net": state, "model": moved}, tmp_path / "alike.pth")
    torch.save({"net": state, "model": prefixed(state, "module.")}, tmp_path / "same.pth")
    assert_same(read_weights(tmp_path / "two.pth", needed=state)[0], state)
    assert_same(read_weights(tmp_path / "two.pth", needed=other)[0], other)
    assert_same(read_weights(tmp_path / "same.pth")[0], state)
    with pytest.raises(ModelError, match=r"different weights under model and net, which all fit this network; re-save"):
        read_weights(tmp_path / "alike.pth", needed=state)
    with pytest.raises(ModelError, match=r"different weights under model and net, and nothing says which is meant"):
        read_weights(tmp_path / "alike.pth")
    wide = CIFAR_MODELS["resnet8x4"](num_classes=5).state_dict()
    with pytest.raises(ModelError, match=r"of which none fits this network.*torch.load\(file\)\['model'\]"):
        read_weights(tmp_path / "two.pth", needed=wide)


def test_what_is_passed_over_is_said(tmp_path: Path, state: State, caplog: pytest.LogCaptureFixture) -> None:
    optimizer = {"state": {0: {"m": torch.ones(2)}}, "param_groups": []}
    torch.save({"student": state, "teacher": prefixed(state, "x."), "optimizer": optimizer}, tmp_path / "w.pth")
    with caplog.at_level("INFO", "kdbench"):
        assert_same(read_weights(tmp_path / "w.pth")[0], state)
    assert "holds student, teacher, optimizer; taking student, and nothing of teacher" in caplog.text


def test_files_of_numpy_1(tmp_path: Path, state: State) -> None:
    """They name its modules otherwise."""
    torch.save({"model": state, "lr": np.float64(0.1)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w.pth").read_bytes()
    other = (b"numpy._core.", b"numpy.core.") if b"numpy._core." in content else (b"numpy.core.", b"numpy._core.")
    (tmp_path / "w.pth").write_bytes(content.replace(*other))
    found, facts = read_weights(tmp_path / "w.pth")
    assert_same(found, state)
    assert facts == {"lr": 0.1}


def test_numpys_values_are_read_as_numbers(tmp_path: Path, state: State) -> None:
    allowed = torch.serialization.get_safe_globals()
    facts = {
        "a": np.float32(0.25),
        "b": np.bool_(True),
        "c": np.str_("x-1"),
        "d": np.array([3], ">i4")[0],
        "e": np.datetime64("2020-01-01"),
    }
    torch.save({"model": state, **facts, "objects": np.array([{}], object)}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth")[1] == {"a": 0.25, "b": True, "c": "x-1", "d": 3}
    order = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    torch.save({"w": order, "v": torch.ones(1)}, tmp_path / "f.pth")
    assert read_weights(tmp_path / "f.pth")[0]["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


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
