"""Every method: captured steps against single ones, bit by bit, and one step of the GPU against the CPU's, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdbench.bench.speed.gpu.checks.runs import IMAGES, Outcome, methods_of, steps_of, teacher_file, tiny
from kdbench.bench.speed.gpu.settings import Save, Settings, in_a_line
from kdbench.distillers.base import distillers
from kdbench.engine.runtime import start_runtime
from kdbench.engine.session.prepare import Common
from kdbench.errors import IncompatibleError

#: How far one step may lie apart on GPU and CPU, see :func:`deviation`, and why. Two ways of convolving on one CPU lie 1e-6 to 1e-5
#: apart: sums are taken in another order. A value at zero but for rounding falls on the other side of a ReLU now and then.
TOLERANCE = (1e-3, "sums in another order, now and then a ReLU's other side")
#: Of methods for which it is more.
WIDER = {
    "HCD": (1e-2, "ReLUs in its projectors: a single one that falls on its other side weighs more in a small module")
}
#: one batch
_ONE = 16
#: mean size of entries below which distances are not relative to it
_SMALL = 1e-2


def run(settings: Settings, folder: Path, save: Save) -> dict[str, Any]:
    """Rows by method: ``steps``, ``replayed``, ``capturable`` (as declared), ``equal`` (captured and single steps end in the same
    bits), ``differ`` (what does not), ``deviation`` (of GPU and CPU), ``tolerance``, ``agrees``; or ``refused``, or ``error``.

    Args:
        settings: device and methods.
        folder: for files.
        save: takes the rows as far as they have come.
    """
    found: dict[str, Any] = {"rows": [], "stand_in": not settings.is_gpu}
    found["tolerances"] = {"all": TOLERANCE, **WIDER}
    teacher = teacher_file(folder, "cpu")
    many, one, host = (
        Common(start_runtime(tiny("KD", device, folder, teacher, images)))
        for device, images in ((settings.device, IMAGES), (settings.device, _ONE), ("cpu", _ONE))
    )

    for method in methods_of(settings):
        row: dict[str, Any] = {"method": method}
        try:
            captured = steps_of(tiny(method, settings.device, folder / "captured", teacher), many, captured=True)
            single = steps_of(tiny(method, settings.device, folder / "single", teacher), many, captured=False)
            differ = differences(captured, single)
            row |= {"steps": captured.steps, "replayed": captured.replayed, "differ": differ, "equal": not differ}
            row["capturable"] = distillers.get(method).capturable
            there, here = (
                steps_of(tiny(method, device, folder / name, teacher, _ONE, 1), common, captured=False)
                for device, name, common in ((settings.device, "there", one), ("cpu", "here", host))
            )
            row["deviation"] = deviation(there, here)
            row["tolerance"] = WIDER.get(method, TOLERANCE)[0]
            row["agrees"] = row["deviation"] <= row["tolerance"]
        except IncompatibleError as error:
            row["refused"] = str(error)
        except Exception as error:  # noqa: BLE001 - one method's failure is a finding, and the others are checked
            row["error"] = in_a_line(error)
        found["rows"].append(row)
        save(found)
    return found


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Names of parameters, buffers, averages of gradients and terms that are not equal to the bit."""
    found = []
    for part in ("state", "gradients"):
        ours, theirs = getattr(one, part), getattr(other, part)
        names = sorted(ours.keys() | theirs.keys())
        found += [name for name in names if not _same(ours.get(name), theirs.get(name))]
    return sorted(set(found)) + [f"term {name}" for name in one.terms if one.terms[name] != other.terms.get(name)]


def deviation(one: Outcome, other: Outcome) -> float:
    """The largest of: distance of all gradients relative to their norm, of each buffer relative to its norm, of each term relative
    to the sum of the terms."""
    ours, theirs = _row(one.gradients), _row(other.gradients)
    worst = [float((ours - theirs).norm() / theirs.norm())]
    buffers = [name for name in other.state if name not in other.gradients and other.state[name].is_floating_point()]
    worst += [_distance(one.state[name].double(), other.state[name].double()) for name in buffers]
    whole = sum(abs(value) for value in other.terms.values()) or 1.0
    worst += [abs(one.terms[name] - value) / whole for name, value in other.terms.items()]
    return max(worst)


def _row(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def _distance(one: Tensor, other: Tensor) -> float:
    # a running mean behind a linear map of centred features is zero but for rounding; what it is a mean of is about one
    return float((one - other).norm() / other.norm().clamp_min(_SMALL * other.numel() ** 0.5))


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
