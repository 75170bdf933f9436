"""Malformed and dangerous files of weights: refused in one line that names the file, and never executed."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from malformed_weights import MALFORMED, METADATA, Bomb, State, write_malformed
from safetensors.torch import save_file
from tiny_run import settings

import kdbench
from kdbench.errors import KdbenchError, ModelError
from kdbench.models.networks.cifar import CIFAR_MODELS
from kdbench.models.weights.class_names import stored_class_names
from kdbench.models.weights.read import file_sha256, load_into, read_recorded, read_weights


@pytest.fixture
def state() -> State:
    return CIFAR_MODELS["resnet8"](num_classes=5).state_dict()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_files_are_refused_in_one_line(tmp_path: Path, state: State, kind: str) -> None:
    path = tmp_path / "weights.pth"
    write_malformed(kind, path, state)
    with pytest.raises(ModelError, match=MALFORMED[kind]) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_flipped_bit_of_an_archive_is_found(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    content = path.read_bytes()
    value = state["fc.weight"].numpy().tobytes()
    place = content.index(value) + len(value) // 2
    for bit in (0, 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        with pytest.raises(ModelError, match="cut short or damaged"):
            read_weights(path)
    path.write_bytes(content)
    assert torch.equal(read_weights(path)[0]["fc.weight"], state["fc.weight"])


def test_an_archive_without_checksums_is_read(tmp_path: Path, state: State) -> None:
    """As ``torch.serialization.set_crc32_options(False)`` writes them."""
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        sums = {info.CRC for info in archive.infolist()}
    content = path.read_bytes()
    for value in sums - {0}:
        content = content.replace(struct.pack("<I", value), bytes(4))
    path.write_bytes(content)
    read, _ = read_weights(path)
    assert all(torch.equal(value, state[key]) for key, value in read.items())


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_file_whose_name_is_not_utf8(tmp_path: Path, state: State, kind: str) -> None:
    plain, odd = tmp_path / f"w.{kind}", tmp_path / os.fsdecode(b"gr\xfcn." + kind.encode())
    if kind == "safetensors":
        save_file(state, plain)
    else:
        torch.save(state, plain, _use_new_zipfile_serialization=kind == "zip")
    plain.rename(odd)
    read, _ = read_weights(odd)
    assert read.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in read.items())


@pytest.mark.parametrize("key", ["fc\n\x1b[31m", "x" * 1_000_000, "half \ud800"])
def test_keys_are_told_in_one_short_line(tmp_path: Path, state: State, key: str) -> None:
    torch.save({**state, key: torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="1 unexpected") as caught:
        load_into(CIFAR_MODELS["resnet8"](num_classes=5), read_weights(tmp_path / "w.pth")[0], source="w.pth")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "args",
    [
        {"mean": [1, 1, 10**400], "std": [1, 1, 1]},
        {"mean": [[1]], "std": "abc", "input_size": [3, 10**30, 10**30]},
        {"mean": None, "std": None, "model": "hf-hub:../x"},
        {"mean": [0.5], "std": [1, 1, float("nan")], "model": "x" * 100_000, "class_map": "x" * 100_000},
    ],
)
def test_options_beside_the_weights_that_say_nothing(tmp_path: Path, state: State, args: dict[str, object]) -> None:
    torch.save({"model": state, "args": args}, tmp_path / "w.pth")
    recorded = read_recorded(tmp_path / "w.pth")
    assert (recorded.statistics, recorded.input_size) == (None, 0)
    assert stored_class_names(str(tmp_path / "w.pth"), {}, recorded) is None


@pytest.mark.parametrize("kind", ["pipe", "endless device"])
def test_what_has_no_end_is_not_hashed(tmp_path: Path, state: State, kind: str) -> None:
    write_malformed(kind, tmp_path / "w.pth", state)
    with pytest.raises(ModelError, match=MALFORMED[kind]):
        file_sha256(tmp_path / "w.pth")


def test_the_bomb_is_live(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "executed")))  # noqa: S301 - proves that the tests above could fail
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", METADATA)
@pytest.mark.parametrize("role", ["STUDENT", "TEACHER"])
def test_malformed_metadata_are_refused_whoever_reads_them_first(
    tmp_path: Path, state: State, kind: str, role: str
) -> None:
    write_malformed(kind, tmp_path / "weights.safetensors", state)
    more = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_cnn"} if role == "TEACHER" else {}
    weights = {f"{role}.WEIGHTS": str(tmp_path / "weights.safetensors"), f"{role}.NORM": "dataset"}
    cfg = settings(tmp_path, 1, **more, **weights)
    with pytest.raises(ModelError, match="cut short or damaged"):
        kdbench.train(cfg)


@pytest.mark.parametrize("statistics", [5, [[1, 1], 5], "x", [[1, 1, 10**400], [1, 1, 1]], {"a": 1}])
def test_statistics_that_say_nothing(tmp_path: Path, state: State, statistics: object) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(state, file, metadata={"kdbench": json.dumps({"statistics": statistics})})
    more = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_cnn", "TEACHER.NORM": "dataset"}
    with pytest.raises(KdbenchError):
        kdbench.train(settings(tmp_path, 1, **more, **{"TEACHER.WEIGHTS": str(file)}))
