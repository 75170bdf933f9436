"""From a configuration to the parts of a run: student, teacher, method. Everything here fails before a folder exists."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from yacs.config import CfgNode

from kdbench.data.augmentation.augment import Augment
from kdbench.data.loader import TrainLoader
from kdbench.data.source import DataSource
from kdbench.distillers.base import DataInfo, Distiller
from kdbench.distillers.create import create_distiller, judge_methods
from kdbench.engine.runtime import Runtime
from kdbench.errors import ConfigError, IncompatibleError, ModelError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.names import find_entry
from kdbench.models.spec import ModelSpec
from kdbench.models.weights.load import UnknownStatisticsError
from kdbench.models.zoo import create_model

#: arguments of create_model that are keys beside OPTIONS, or follow from something else
_BESIDE = {
    "weights": "WEIGHTS",
    "input_size": "INPUT_SIZE",
    "norm": "NORM",
    "stages": "STAGES",
    "head": "HEAD",
    "ema": "WEIGHTS_EMA",
}
_ELSEWHERE = {"name": "name it by DISTILLER.TEACHER or DISTILLER.STUDENT", "seed": "it is EXPERIMENT.SEED"}
_ARGUMENTS = set(inspect.signature(create_model).parameters) - {"options"}


def image_size(cfg: CfgNode, data: DataSource) -> int:
    """Side of the images that both networks are handed."""
    return cfg.DATASET.IMAGE_SIZE or data.image_size


def evaluation_options(cfg: CfgNode, data: DataSource) -> dict[str, Any]:
    """How a configuration has networks evaluated, as arguments of :func:`kdbench.engine.evaluation.score`."""
    return {
        "batch_size": cfg.DATASET.TEST.BATCH_SIZE,
        "size": image_size(cfg, data),
        "crop_pct": cfg.AUGMENT.CROP_PCT,
        "interpolation": cfg.AUGMENT.EVAL_INTERPOLATION,
        "workers": cfg.DATASET.NUM_WORKERS,
    }


def build_network(cfg: CfgNode, role: str, data: DataSource, *, seed: int | None = None) -> FeatureModel:
    """The network of ``cfg.DISTILLER.<role>`` with the options of ``cfg.<role>``; role is TEACHER or STUDENT.

    Raises:
        UnknownNameError: no such model.
        ModelError: it cannot be built, or its weights do not fit.
    """
    node = cfg[role]
    for option in sorted(_ARGUMENTS & set(node.OPTIONS)):
        where = f"write it beside OPTIONS, as {_BESIDE[option]}" if option in _BESIDE else _ELSEWHERE.get(option)
        raise ConfigError(
            f"{role}.OPTIONS.{option} is no option of a network: {where or 'it follows from the data set'}"
        )
    try:
        model = create_model(
            cfg.DISTILLER[role],
            num_classes=data.num_classes,
            weights=node.WEIGHTS,
            input_size=node.INPUT_SIZE,
            data_size=image_size(cfg, data),
            norm=node.NORM,
            data_statistics=data.statistics,
            stages=node.STAGES,
            head=node.HEAD,
            ema=node.WEIGHTS_EMA,
            seed=seed,
            classes=data.classes,
            **dict(node.OPTIONS),
        )
    except UnknownStatisticsError:
        raise UnknownStatisticsError(
            f"{role}.NORM is missing: {node.WEIGHTS} does not say how its inputs were normalised; add {_norm(role, data)}"
        ) from None
    if node.FREEZE == "backbone":
        model.freeze_backbone()
    return model


def _norm(role: str, data: DataSource) -> str:
    return f"{role}.NORM=dataset (the statistics of {data.name}), or imagenet, inception, none, [[mean], [std]]"


def build_teacher(cfg: CfgNode, data: DataSource) -> FeatureModel | None:
    """The frozen teacher in evaluation mode, or None where the configuration names none."""
    if not cfg.DISTILLER.TEACHER:
        return None
    if not cfg.TEACHER.WEIGHTS and data.gate and not find_entry(cfg.DISTILLER.TEACHER).own_weights:
        norm = f" and, where that file does not say how its inputs were normalised, {_norm('TEACHER', data)}"
        raise ConfigError(
            f"TEACHER.WEIGHTS is empty: name the weights of teacher {cfg.DISTILLER.TEACHER!r}; add TEACHER.WEIGHTS=<file> (or "
            f"pretrained){norm if cfg.TEACHER.NORM == 'auto' else ''}"
        )
    teacher = build_network(cfg, "TEACHER", data, seed=0)
    if teacher.fresh_head:
        raise ConfigError(
            f"TEACHER.WEIGHTS {cfg.TEACHER.WEIGHTS!r} hold no classifier for {data.num_classes} classes, so teacher "
            f"{cfg.DISTILLER.TEACHER!r} cannot teach yet: train it with `kdbench teacher` and name the file that it writes"
        )
    for key, value in teacher.backbone.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(
                f"TEACHER.WEIGHTS {cfg.TEACHER.WEIGHTS!r}: {key} holds NaN or infinity, so that nothing can be learned from it"
            )
    teacher.eval()
    teacher.requires_grad_(False)
    return teacher


def build_distiller(
    cfg: CfgNode,
    student: FeatureModel,
    teacher: FeatureModel | ModelSpec | Sequence[ModelSpec] | None,
    data: DataSource,
    world: int = 1,
) -> Distiller:
    """The configured method for this pair and data set, in one of ``world`` processes.

    Raises:
        IncompatibleError: it is undefined for the pair; the message lists the methods that are defined.
    """
    info = DataInfo(data.num_classes, len(data.train), data.train.labels, -(-cfg.SOLVER.BATCH_SIZE // world))
    try:
        return create_distiller(cfg.DISTILLER.TYPE, student, teacher, cfg, data=info)
    except IncompatibleError as error:
        specs = teacher.spec if isinstance(teacher, FeatureModel) else teacher
        works = [name for name, reason in judge_methods(student.spec, specs, info).items() if not reason]
        raise IncompatibleError(f"{error}; methods that work for it: {', '.join(works)}") from None


def make_loader(cfg: CfgNode, data: DataSource, runtime: Runtime) -> TrainLoader:
    """The training loader of a configuration.

    Raises:
        ConfigError: an augmentation or batch size that the data or the processes do not allow.
    """
    if cfg.AUGMENT.CROP == "pad" and cfg.AUGMENT.PAD < 0 and not data.standard.pad:
        raise ConfigError(
            f"AUGMENT.CROP: pad needs AUGMENT.PAD, the pixels on each side: data set {data.name!r} has no standard"
        )
    seed = cfg.EXPERIMENT.SEED
    return TrainLoader(
        data.train,
        batch_size=cfg.SOLVER.BATCH_SIZE,
        seed=seed,
        aug_seed=seed if cfg.DATASET.AUG_SEED < 0 else cfg.DATASET.AUG_SEED,
        augment=Augment.from_config(
            cfg, data.standard, cfg.DATASET.IMAGE_SIZE, num_classes=data.num_classes, statistics=data.statistics
        ),
        views=cfg.CACHE.VIEWS,
        workers=cfg.DATASET.NUM_WORKERS,
        repeat=cfg.DATASET.REPEAT,
        aug_repeats=cfg.DATASET.AUG_REPEATS,
        device=runtime.device,
        rank=runtime.rank,
        world=runtime.world,
    )
