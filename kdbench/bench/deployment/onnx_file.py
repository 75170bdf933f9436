"""An ONNX file, run by onnxruntime."""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdbench.bench.deployment.program import about, program_of
from kdbench.bench.deployment.student import Deployable, Student
from kdbench.errors import KdbenchError, ModelError
from kdbench.logs import at_level

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "images", "logits"
#: of the older exporter: the oldest that has all operators of the zoo
_OPSET = 17


def check_packages() -> None:
    """Raises:
    KdbenchError: a package is not installed.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise KdbenchError(f"{', '.join(missing)} {verb} not installed: pip install 'kdbench[onnx]'")


def write(student: Student, module: Deployable, file: Path) -> None:
    """Write a file of input ``images`` (batch, 3, side, side) and output ``logits`` (batch, K); its metadata name the classes
    (``classes``, as JSON), the size and range of the input, network, method, data set and accuracy.

    Raises:
        ModelError: the network has an operation that ONNX has not, or is larger than the 2 GB of an ONNX file.
    """
    import onnx

    with warnings.catch_warnings(), at_level("torch.onnx", logging.ERROR), at_level("onnxscript", logging.ERROR):
        warnings.simplefilter("ignore")  # of exporters, on themselves
        try:
            (_from_program if _follows_programs() else _from_trace)(module, file)
            model = onnx.load(str(file))
            known = {k: v if isinstance(v, str) else json.dumps(v) for k, v in about(student).items()}
            onnx.helper.set_model_props(model, known)
            onnx.checker.check_model(model)
            onnx.save(model, str(file))
        except KdbenchError:
            raise
        except Exception as error:  # an exporter fails in any way
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"{module.model.spec.name} cannot be written as ONNX: {reason}") from error


def opened(file: Path, threads: int) -> Callable[[Tensor], Tensor]:
    """The function of a file, from images to logits, run by onnxruntime on the CPU with so many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def logits(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.contiguous().numpy()})[0])

    return logits


def _follows_programs() -> bool:
    """Whether this PyTorch's exporter takes programs of ``torch.export`` as it should: from 2.6 on."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    return version >= (2, 6)


def _from_program(module: Deployable, file: Path) -> None:
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
    torch.onnx.export(program_of(module), (), str(file), dynamo=True, external_data=False, verbose=False, **names)


def _from_trace(module: Deployable, file: Path) -> None:
    """The exporter of PyTorch before 2.6."""
    older: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        module,
        (module.example(2),),
        str(file),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        opset_version=_OPSET,
        **older,
    )
