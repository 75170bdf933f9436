"""8-bit whole numbers after training: onnxruntime's static quantisation of an ONNX file, calibrated on training images."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from kdbench.bench.deployment.onnx_file import INPUT
from kdbench.bench.deployment.student import Student
from kdbench.data.loader import evaluation_batches
from kdbench.engine.parts import evaluation_options
from kdbench.errors import ModelError

#: training images that the ranges of activations are taken from, at most twice as many
CALIBRATION = 256
_BATCH = 32


def calibration_batches(student: Student) -> Iterator[Tensor]:
    """Every n-th training image as an evaluation sees it, at least :data:`CALIBRATION` of them where there are so many: files are
    often ordered by class, and the first ones would be of one class."""
    split, options = student.data.train, evaluation_options(student.cfg, student.data)
    del options["batch_size"]
    step = max(1, len(split) // CALIBRATION)
    for images, _ in evaluation_batches(split, _BATCH, options.pop("size"), "cpu", 0, step, **options):
        yield images


def quantise(student: Student, file: Path, target: Path) -> None:
    """Write ``target``: the network of the ONNX ``file`` with weights (by channel) and activations of 8 bits, and its metadata.

    Raises:
        ModelError: onnxruntime cannot quantise the network.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = calibration_batches(student)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {INPUT: images.contiguous().numpy()}

    prepared = file.with_name(f"prepared-{file.name}")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # onnxruntime's tools write to the root logger
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
            )
            model = onnx.load(str(target))
            known = {entry.key: entry.value for entry in onnx.load(str(file)).metadata_props}
            onnx.helper.set_model_props(model, {**known, "quantisation": "int8, static, per channel"})
            onnx.save(model, str(target))
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"--int8: onnxruntime cannot quantise {student.model.spec.name}: {reason}") from error
    finally:
        logging.disable(level)
        prepared.unlink(missing_ok=True)
