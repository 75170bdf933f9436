"""A run to a file: written aside, checked, measured, and only then put in its place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from yacs.config import CfgNode

from kdbench.bench.deployment import int8, onnx_file, program, timm_folder
from kdbench.bench.deployment.latency import BATCHES, Latency, measured, threads_of
from kdbench.bench.deployment.parity import Parity, compare
from kdbench.bench.deployment.student import Student, load_student
from kdbench.errors import ConfigError, KdbenchError, ModelError, did_you_mean
from kdbench.files import stored

#: what a run may be exported to, and how names of it end; timm reads a folder
FORMATS = {"onnx": ".onnx", "torch.export": ".pt2", "timm": ""}


@dataclass(frozen=True)
class Exported:
    """A file that stands.

    Attributes:
        file: its path.
        kind: a key of :data:`FORMATS`.
        size: in bytes.
        side: of the images that it takes.
        classes: K.
        parity: what was found on the test split; of the float32 network where the file is quantised.
        int8_top1: of a quantised file on the test split, in percent; None for others.
        runtime: who ran it for that, and for the latencies.
        threads: it had.
        latencies: one for each size of batch.
    """

    file: Path
    kind: str
    size: int
    side: int
    classes: int
    parity: Parity
    int8_top1: float | None
    runtime: str
    threads: int
    latencies: list[Latency]


def export_run(
    run: str | os.PathLike[str],
    cfg: CfgNode,
    kind: str,
    file: str | os.PathLike[str],
    *,
    quantised: bool = False,
    threads: int = 0,
    batches: Sequence[int] = BATCHES,
    seconds: float = 1.0,
) -> Exported:
    """Export the student of a finished run, with resize and normalisation inside.

    Args:
        run: its folder.
        cfg: its configuration; paths may be others.
        kind: ``onnx``, ``torch.export`` or ``timm``.
        file: to be written; what was there is replaced.
        quantised: weights and activations are 8-bit whole numbers, see :mod:`kdbench.bench.deployment.int8`; only of ``onnx``. The
            float32 file is checked first, and what quantisation costs is measured.
        threads: of the measurements; 0 = as many as PyTorch has.
        batches: sizes to measure.
        seconds: to measure each for.

    Raises:
        ConfigError: an unknown format, one that is not quantised, a name that does not fit it, or a run that is not finished.
        KdbenchError: a package is missing; the network cannot be exported; or the file is not what the student is, and was removed.
    """
    target = Path(file)
    _check_target(kind, target)
    if quantised and kind != "onnx":
        raise ConfigError(f"--int8 is of --to onnx, not of --to {kind}")
    if kind == "onnx":
        onnx_file.check_packages()
    student = load_student(run, cfg)
    if kind == "timm":
        timm_folder.check_network(student)
    with stored(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    with folder as aside, threads_of(threads) as count:
        made = Path(aside) / target.name
        with stored(target):
            call = _written(kind, student, made, count)
        parity, int8_top1 = _checked(student, call, target), None
        if quantised:
            made = Path(aside) / f"int8-{target.name}"
            int8.quantise(student, Path(aside) / target.name, made)
            call = onnx_file.opened(made, count)
            int8_top1 = compare(student, call).top1
        side, size = student.side, _size(made)
        with torch.inference_mode():
            images = [student.deployable().example(batch) for batch in batches]
            latencies = [measured(call, some, seconds=seconds) for some in images]
        with stored(target):
            _put(made, target)
    runtime = _runtime(kind)
    return Exported(target, kind, size, side, len(student.classes), parity, int8_top1, runtime, count, latencies)


def _check_target(kind: str, target: Path) -> None:
    if kind not in FORMATS:
        raise ConfigError(f"--to {kind!r}{did_you_mean(kind, FORMATS)}; there are {', '.join(FORMATS)}")
    ending = FORMATS[kind]
    if ending and target.suffix != ending:
        raise ConfigError(f"--out {str(target)!r}: expects a name that ends in {ending}")
    if ending and target.is_dir():
        raise ConfigError(f"--out {str(target)!r} is a folder; name a file")
    if not ending and target.exists() and not target.is_dir():
        raise ConfigError(f"--out {str(target)!r} is a file; --to {kind} writes a folder")


def _written(kind: str, student: Student, made: Path, threads: int) -> Callable[[Tensor], Tensor]:
    """Write it, and open what was written."""
    module = student.deployable()
    if kind == "timm":
        timm_folder.write(student, module, made)
        return timm_folder.opened(made, student)
    writer = onnx_file if kind == "onnx" else program
    writer.write(student, module, made)  # type: ignore[attr-defined]
    found: Callable[[Tensor], Tensor] = writer.opened(made, threads)  # type: ignore[attr-defined]
    return found


def _checked(student: Student, call: Callable[[Tensor], Tensor], target: Path) -> Parity:
    try:
        parity = compare(student, call)
    except ModelError as error:
        raise ModelError(f"{target} is not written: {error}") from error
    if fault := parity.fault():
        raise KdbenchError(f"{target} is not written: {fault} ({parity.images} test images)")
    return parity


def _size(made: Path) -> int:
    files = [made] if made.is_file() else [file for file in made.iterdir() if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _put(made: Path, target: Path) -> None:
    """In the place of what was there; of a folder only the files that are written anew."""
    if made.is_file():
        os.replace(made, target)
        return
    target.mkdir(exist_ok=True)
    for file in sorted(made.iterdir()):
        shutil.move(str(file), str(target / file.name))


def _runtime(kind: str) -> str:
    if kind == "onnx":
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"
    return f"PyTorch {torch.__version__}"
