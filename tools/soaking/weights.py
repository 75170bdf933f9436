"""Hostile and damaged files of weights, as a teacher's or to be evaluated: what is read is what they hold, or they are refused."""

from __future__ import annotations

import random
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from malformed_weights import MALFORMED, write_malformed
from safetensors.torch import load_file
from torch import Tensor

from soaking.child import command, ended
from soaking.damage import damage
from soaking.place import Place, train
from soaking.verdict import Verdict, judge

#: kinds of good files that are damaged
_FORMS = ("safetensors", "zip", "legacy")
_SAME, _READ_OTHERWISE = 0, 3


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """Every malformed kind in turn, then random damage of good files."""
    student = place.calm("Vanilla").folder / "student.safetensors"
    state = load_file(student)
    with place.case() as folder:
        kinds = list(MALFORMED)
        if number < len(kinds):
            file, accident = folder / "weights.pth", kinds[number]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of quantised tensors
                write_malformed(accident, file, {**state, "fc.weight": torch.ones(5, 64), "fc.bias": torch.ones(5)})
        else:
            form = chance.choice(_FORMS)
            file = folder / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
            if form == "safetensors":
                shutil.copy(student, file)
            else:
                torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
            done, changed = damage(file.read_bytes(), chance)
            file.write_bytes(changed)
            accident = f"{form}: {done}"
        words = train(folder / "runs", "Vanilla" if chance.random() < 0.5 else "KD")
        if "DISTILLER.TYPE=KD" in words:
            words += [
                f"TEACHER.WEIGHTS={file}",
                "TEACHER.OPTIONS.widths=[8,16,32]",
                "TEACHER.NORM=dataset",
                "TEACHER.FLOOR=0",
            ]
        else:
            words = ["eval", "--weights", str(file), *words[1:], "STUDENT.NORM=dataset"]
        read = ended(command(*words))

        def figure() -> str:
            return "" if ended(lambda: _compared(file)).code == _SAME else "what was read is not what the file holds"

        if (folder / "executed").exists():
            return [Verdict("silently wrong", accident, "code of the file was executed")]
        return [judge(read, accident, figure)]


def _compared(file: Path) -> int:
    """Whether kdbench reads of a file what its format's own reader does, and the file passes its format's own check."""
    from kdbench.models.weights.read import read_weights

    state, _ = read_weights(file)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                return _READ_OTHERWISE
    other: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    same = (
        isinstance(other, Mapping) and state.keys() == other.keys() and all(_equal(state[k], other[k]) for k in state)
    )
    return _SAME if same else _READ_OTHERWISE


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.dtype == two.dtype and one.shape == two.shape and one.numpy().tobytes() == two.numpy().tobytes()
