"""Methods by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from yacs.config import CfgNode

from kdbench.config.load import load_config
from kdbench.distillers.base import DataInfo, Distiller, distillers
from kdbench.distillers.compose import compose
from kdbench.distillers.keywords import as_settings
from kdbench.errors import ConfigError
from kdbench.models.spec import ModelSpec

if TYPE_CHECKING:
    from kdbench.models.feature_model.model import FeatureModel


def create_distiller(
    name: str,
    student: FeatureModel | ModelSpec,
    teacher: FeatureModel | ModelSpec | Sequence[FeatureModel | ModelSpec] | None = None,
    cfg: CfgNode | None = None,
    *,
    data: DataInfo | None = None,
    **options: Any,
) -> Distiller:
    """Build a method for a pair.

    Args:
        name: registered name, or several joined by ``+``: their terms are added on one student.
        student: network, or its spec.
        teacher: network, or its spec (where its outputs are cached); of several teachers a list; None without one.
        cfg: a configuration from :func:`kdbench.load_config`; the method's hyperparameters are its node of that name. None takes
            the method's own defaults.
        data: the training set, as far as the method may know it; without it, the student's classes.
        **options: without ``cfg``: hyperparameters in small letters (``temperature=4``, ``kd_weight=0.5``; of a key in several
            nodes the whole path, ``nce_temperature``), ``preset``, and ``seed`` of the method's own modules.

    Raises:
        UnknownNameError: no such method.
        IncompatibleError: it is undefined for this pair.
        ConfigError: a hyperparameter that does not exist, or is out of range; a network that is neither.
    """
    classes = method_classes(name)
    if cfg is None:
        cfg = load_config(overrides=as_settings(classes, options), purpose="read")
    elif options:
        raise ConfigError(f"create_distiller: {', '.join(options)} beside cfg; write hyperparameters in one of the two")
    spec = _spec("student", student)
    if spec is None:
        raise ConfigError("create_distiller: student is None; expects a FeatureModel or its spec")
    several = teacher if isinstance(teacher, (list, tuple)) else [teacher]
    teachers = [found for one in several if (found := _spec("teacher", one)) is not None]
    info = data or DataInfo(spec.num_classes)
    seed = cfg.EXPERIMENT.SEED if "EXPERIMENT" in cfg else 0
    nodes = {cls.name: cfg.get(cls.name.upper(), CfgNode()) for cls in classes}
    if len(classes) == 1:
        return classes[0](spec, teachers, nodes[classes[0].name], info, seed=seed)
    weights = [_weights(cfg, key, classes) for key in ("PART_WEIGHTS", "PART_CE_WEIGHTS")]
    return compose(list(nodes), spec, teachers, nodes, info, weights=weights[0], ce_weights=weights[1], seed=seed)


def _spec(role: str, network: Any) -> ModelSpec | None:
    spec = getattr(network, "spec", network)
    if spec is None or isinstance(spec, ModelSpec):
        return spec
    raise ConfigError(
        f"create_distiller: {role} is a {type(network).__name__}, expects a FeatureModel or its spec; kdbench.wrap_model makes a "
        "FeatureModel of any module"
    )


def method_classes(name: str) -> list[type[Distiller]]:
    """The class of a method, or those of a composition (``"CRD+KD"``), in order.

    Raises:
        UnknownNameError: no such method.
    """
    return [distillers.get(part.strip()) for part in name.split("+")]


def uses_teacher(name: str) -> bool:
    """Whether a method, or any part of a composition, learns from a teacher."""
    return any(cls.uses_teacher for cls in method_classes(name))


def _weights(cfg: CfgNode, key: str, classes: Sequence[type[Distiller]]) -> dict[str, float] | None:
    values = cfg.DISTILLER[key] if "DISTILLER" in cfg else ()
    if not values:
        return None
    if len(values) != len(classes):
        raise ConfigError(f"DISTILLER.{key}: expects {len(classes)} numbers, one a method, got {values}")
    return {cls.name: float(value) for cls, value in zip(classes, values)}


def list_distillers(pattern: str = "*") -> list[str]:
    """Registered method names that fit a wildcard."""
    return distillers.names(pattern)


def judge_methods(
    student: ModelSpec, teacher: ModelSpec | Sequence[ModelSpec | None] | None, data: DataInfo
) -> dict[str, str]:
    """Of every registered method at its defaults: why it refuses the pair, or an empty string. Builds no module."""
    specs: list[ModelSpec | None] = list(teacher) if isinstance(teacher, Sequence) else [teacher]
    verdicts = {}
    for name in distillers.names():
        cls = distillers.get(name)
        if specs[0] is None and cls.uses_teacher:
            verdicts[name] = "needs a teacher"
        elif len(specs) > 1 and cls.uses_teacher and not cls.several_teachers:
            verdicts[name] = "learns from one teacher"
        else:
            reasons = (cls.refuses(student, spec, CfgNode(_plain(cls.defaults)), data) for spec in specs)
            verdicts[name] = next(filter(None, reasons), "")
    return verdicts


def _plain(defaults: dict[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, dict) else value for key, value in defaults.items()}
