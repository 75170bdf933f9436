"""Every method's run, the same again, and once more interrupted and resumed: equal to the byte, or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdbench.bench.speed.gpu.checks.runs import IMAGES, methods_of, teacher_file, tiny
from kdbench.bench.speed.gpu.settings import Save, Settings, in_a_line
from kdbench.engine.run import train
from kdbench.errors import IncompatibleError

#: step, of all epochs, behind which a run is interrupted: in its second epoch
_STOP = 9
_FILES = ("student.safetensors", "metrics.jsonl")


class _Interrupted(BaseException):
    """As a kill: no part of kdbench takes it for its own error."""


def run(settings: Settings, folder: Path, save: Save) -> dict[str, Any]:
    """Rows by method: ``twice`` and ``resumed``, whether these runs end in the first one's bytes; or ``error``.

    Args:
        settings: device and methods.
        folder: for files.
        save: takes the rows as far as they have come.
    """
    found: dict[str, Any] = {"rows": []}
    teacher = teacher_file(folder, "cpu")
    for method in methods_of(settings):
        row: dict[str, Any] = {"method": method}
        try:
            first = _train(method, settings.device, folder / "first", teacher)
            row["twice"] = _train(method, settings.device, folder / "again", teacher) == first
            _interrupt(method, settings.device, folder / "resumed", teacher)
            row["resumed"] = _train(method, settings.device, folder / "resumed", teacher) == first
        except IncompatibleError as error:
            row["refused"] = str(error)
        except Exception as error:  # noqa: BLE001 - one method's failure is a finding, and the others are checked
            row["error"] = in_a_line(error)
        found["rows"].append(row)
        save(found)
    return found


def _train(method: str, device: str, folder: Path, teacher: str) -> list[bytes]:
    result = train(tiny(method, device, folder, teacher))
    return [Path(result.folder, name).read_bytes() for name in _FILES]


def _interrupt(method: str, device: str, folder: Path, teacher: str) -> None:
    def stop(epoch: int, step: int, steps: int) -> None:
        if (epoch - 1) * steps + step == _STOP:
            raise _Interrupted

    try:
        train(tiny(method, device, folder, teacher), progress=stop)
    except _Interrupted:
        return
    raise RuntimeError(f"{IMAGES} images an epoch were too few for an interruption behind step {_STOP}")
