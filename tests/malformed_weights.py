"""Malformed and dangerous files of weights, by kind."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

State = dict[str, Tensor]


class Bomb:
    """Makes a folder when it is unpickled by a reader that runs code."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.target,)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def write_malformed(kind: str, path: Path, state: State) -> None:
    """Write the malformed file of that kind."""
    boom = Bomb(path.parent / "executed")
    if kind == "folder":
        path.mkdir()
    elif kind in TEXTS:
        path.write_text(TEXTS[kind])
    elif kind == "gzip":
        path.write_bytes(b"\x1f\x8b\x08\x00" + bytes(40))
    elif kind == "noise":
        path.write_bytes(bytes(range(255, 0, -1)))
    elif kind == "zip cut short":
        torch.save(state, path)
        cut(path, 0.5)
    elif kind == "legacy cut short":
        torch.save(state, path, _use_new_zipfile_serialization=False)
        cut(path, 0.5)
    elif kind == "legacy cut in its first bytes":
        torch.save(state, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:40])
    elif kind == "safetensors cut short":
        save_file(state, path)
        cut(path, 0.5)
    elif kind == "safetensors with broken metadata":
        save_file(state, path, metadata={"kdbench": "{"})
    elif kind == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    elif kind == "bomb in a zip":
        torch.save({"model": state, "extra": boom}, path)
    elif kind == "bomb in a legacy file":
        torch.save({"model": state, "extra": boom}, path, _use_new_zipfile_serialization=False)
    elif kind == "bare bomb":
        path.write_bytes(pickle.dumps(boom, protocol=2))
    elif kind == "bare bomb of protocol 4":
        path.write_bytes(pickle.dumps({"model": boom}, protocol=4))
    elif kind == "whole module":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "torchscript":
        with torch.no_grad():
            torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), str(path))
    elif kind == "no tensors":
        torch.save({"epoch": 3, "optimizer": {"lr": 0.1}}, path)
    elif kind == "tensors under another name":
        torch.save({"best_acc": torch.tensor(0.5), "blob": {"fc.weight": torch.ones(2)}}, path)
    elif kind == "a list":
        torch.save([torch.ones(2)], path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless device":
        path.symlink_to("/dev/zero")
    elif kind in ODD:
        torch.save({"model": {**state, "fc.weight": ODD[kind]()}}, path)
    elif kind == "bomb among numpy's values":
        torch.save({"model": state, "lr": np.float64(0.1), "extra": boom}, path)
    elif kind == "another function of numpy":
        torch.save({"model": state, "loads": np.loads if hasattr(np, "loads") else np.fromfile}, path)
    elif kind == "two keys that become one":
        torch.save({**state, "_orig_mod.fc.bias": state["fc.bias"]}, path)
    elif kind == "empty state dict":
        torch.save({}, path)
    elif kind in METADATA:
        save_file(state, path, metadata={"kdbench": METADATA[kind]})
    elif kind in HEADERS:
        path.write_bytes(HEADERS[kind])
    elif kind in PICKLES:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", PICKLES[kind]())
            archive.writestr("archive/version", "3\n")
    elif kind == "a million keys":
        torch.save({f"k{i}": 0 for i in range(1_000_000)}, path)
    elif kind == "one mapping at 10^12 places":
        inner: dict[str, object] = {"lr": 0.1}
        for _ in range(4):
            inner = {f"k{i}": inner for i in range(1000)}
        torch.save({"model": inner}, path)
    elif kind == "scalars without values":
        torch.save({"model": {}, "count": torch.ones((), device="meta")}, path)
    else:
        assert kind == "missing"


TEXTS = {
    "empty": "",
    "web page": "\n<!DOCTYPE html><html><title>Sign in</title></html>",
    "lfs pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n",
    "text": json.dumps({"error": "not found"}),
}
ODD: dict[str, Callable[[], Tensor]] = {
    "complex": lambda: torch.ones(5, 64, dtype=torch.complex64),
    "8-bit floating point": lambda: torch.ones(5, 64).to(torch.float8_e4m3fn),
    "sparse": lambda: torch.ones(5, 64).to_sparse(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(5, 64), 0.1, 0, torch.qint8),
}


def safetensors_of(header: dict[str, object] | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A file that says that its header is of that length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ONE = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
METADATA = {
    "metadata of 100,000 lists": "[" * 100_000,
    "metadata of 100,000 mappings": '{"a": ' * 100_000 + "1" + "}" * 100_000,
    "metadata with a number of 5,000 digits": f'{{"a": {"9" * 5000}}}',
}
HEADERS = {
    "a header longer than the file": safetensors_of(ONE, bytes(4), length=2**62),
    "a header that ends in the data": safetensors_of(ONE, bytes(4), length=70),
    "a header of no length": safetensors_of(ONE, bytes(4), length=0),
    "tensors beyond the file": safetensors_of(
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(4)
    ),
    "tensors that overlap": safetensors_of({**ONE, "b": ONE["a"]}, bytes(4)),
    "a type of another size": safetensors_of({"a": {**ONE["a"], "dtype": "F64"}}, bytes(4)),
    "an unknown type": safetensors_of({"a": {**ONE["a"], "dtype": "F99"}}, bytes(4)),
    "a negative shape": safetensors_of({"a": {**ONE["a"], "shape": [-1]}}, bytes(4)),
    "a header of 50,000 mappings": safetensors_of(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "a header that is no UTF-8": safetensors_of(b'{"\xff": 1}'),
    "200,000 tensors": safetensors_of(
        {f"k{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(200_000)}
    ),
}
PICKLES = {
    "100,000 lists": lambda: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "100,000 mappings": lambda: b"\x80\x02" + b"}X\x05\x00\x00\x00model" * 100_000 + b"N" + b"s" * 100_000 + b".",
    "a mapping within itself": lambda: b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "a small file of 600 MB": lambda: b"\x80\x02" + bytes(600_000_000),
}
#: kind -> what is said of it
MALFORMED = {
    "missing": "does not exist",
    "folder": "is a folder",
    "empty": "is empty",
    "web page": "looks like a web page",
    "lfs pointer": "is a git-lfs pointer.*git lfs pull",
    "text": "is a text file",
    "gzip": "compressed archive.*unpack",
    "noise": "cut short or damaged",
    "zip cut short": "cut short or damaged",
    "legacy cut short": "cut short or damaged",
    "legacy cut in its first bytes": "cut short or damaged",
    "safetensors cut short": "cut short or damaged",
    "safetensors with broken metadata": "cut short or damaged",
    "other zip": r"is a zip that is no checkpoint \(it holds readme.txt\)",
    "bomb in a zip": r"needs code to be executed \(posix.mkdir\).*re-save only its state dict",
    "bomb in a legacy file": r"needs code to be executed \(posix.mkdir\).*re-save only its state dict",
    "bare bomb": r"needs code to be executed \(posix.mkdir\).*re-save only its state dict",
    "bare bomb of protocol 4": "needs code to be executed.*re-save only its state dict",
    "whole module": r"needs code to be executed \(torch.nn.modules.linear.Linear\).*re-save only its state dict",
    "torchscript": "TorchScript.*re-save only its state dict",
    "no tensors": "holds no tensors.*its keys: epoch, optimizer",
    "tensors under another name": "holds no tensors.*its keys: best_acc, blob",
    "a list": "holds a list; expected a state dict",
    "pipe": "is a pipe; expected a file of weights",
    "endless device": "is a device; expected a file of weights",
    **{kind: f"tensor 'fc.weight' is (of )?{kind} .*expected plain floating-point weights" for kind in ODD},
    "bomb among numpy's values": r"needs code to be executed \(posix.mkdir\)",
    "another function of numpy": r"needs code to be executed \(numpy",
    "two keys that become one": "holds 'fc.bias' twice, wrapped and not",
    "empty state dict": "holds no tensors.*its keys: nothing",
    **dict.fromkeys(METADATA, "cut short or damaged"),
    **dict.fromkeys(HEADERS, "cut short or damaged"),
    "200,000 tensors": "holds 200,000 entries, and no state dict has more than 100,000",
    "100,000 lists": "holds a list; expected a state dict",
    "100,000 mappings": "holds no tensors",
    "a mapping within itself": "holds no tensors",
    "a small file of 600 MB": "unpacks to 600,000,002 bytes beside its tensors",
    "a million keys": "holds 1,000,000 entries, and no state dict has more than 100,000",
    "one mapping at 10^12 places": "holds no tensors",
    "scalars without values": "holds no tensors",
}
