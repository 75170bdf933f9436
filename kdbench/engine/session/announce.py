"""What a run is about to do, in one paragraph, before its first step."""

from __future__ import annotations

from yacs.config import CfgNode

from kdbench.data.source import DataSource
from kdbench.engine.parts import image_size
from kdbench.engine.precision import PRECISIONS
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.runtime import Runtime, device_name
from kdbench.engine.teacher.several import Teachers
from kdbench.models.feature_model.flops import forward_flops
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelSpec


def opening(
    cfg: CfgNode,
    data: DataSource,
    student: FeatureModel,
    teacher: Teachers | None,
    folder: RunFolder,
    runtime: Runtime,
) -> str:
    """The paragraph: images and classes, what was left out, the sizes that each network sees, parameters and operations, device,
    precision and folder."""
    side = image_size(cfg, data)
    sentences = [_images(data)]
    if data.left_out:
        sentences.append(f"Left out: {'; '.join(data.left_out)}.")
    sentences.append(_network("Student", student.spec, side, forward_flops(student.backbone, student.input_size)))
    if teacher is not None:
        for source in teacher.sources:
            built = source.network if source.is_built else None
            flops = forward_flops(built.backbone, built.input_size) if built is not None else None
            sentences.append(_network("Teacher", source.spec, side, flops))
    sentences.append(_machine(cfg, runtime))
    sentences.append(f"Files: {folder.path}")
    return " ".join(sentences)


def _images(data: DataSource) -> str:
    held = f", {len(data.val):,} for validation" if data.val is not None else ""
    classes = f"{data.num_classes:,} class{'es' * (data.num_classes > 1)}"
    return f"{data.name}: {len(data.train):,} training images{held}, {len(data.test):,} test images, {classes}."


def _network(role: str, spec: ModelSpec, side: int, flops: int | None) -> str:
    height, width = spec.input_size
    sees = f"{height}x{width} pixels" + (f", resized from {side}x{side}" if (height, width) != (side, side) else "")
    cost = "" if flops is None else f", {_short(flops)}FLOPs an image"
    return f"{role} {spec.name} sees {sees}; {_count(spec.params)} parameters{cost}."


def _count(number: int) -> str:
    return f"{number:,}" if number < 1e6 else _short(number).strip()


def _short(number: float) -> str:
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.4g} {letter}"
    return f"{number:g} "


def _machine(cfg: CfgNode, runtime: Runtime) -> str:
    words = PRECISIONS[cfg.SOLVER.PRECISION]
    repeat = "" if runtime.device.type == "cpu" or cfg.RUNTIME.DETERMINISTIC else ", not repeatable to the bit"
    several = f", {runtime.world} processes" if runtime.world > 1 else ""
    return f"{device_name(runtime.device)}{several}, {words}{repeat}."
