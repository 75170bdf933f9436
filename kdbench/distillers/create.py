"""Methods by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yacs.config import CfgNode

from kdbench.distillers.base import DataInfo, Distiller, distillers
from kdbench.models.spec import ModelSpec

if TYPE_CHECKING:
    from kdbench.models.features import FeatureModel


def create_distiller(
    name: str,
    student: FeatureModel | ModelSpec,
    teacher: FeatureModel | ModelSpec | None,
    cfg: CfgNode,
    *,
    data: DataInfo | None = None,
) -> Distiller:
    """Build a method for a pair.

    Args:
        name: registered name.
        student, teacher: networks, or their specs (a teacher's where its outputs are cached); None without a teacher.
        cfg: a configuration from :func:`kdbench.load_config`; the method's hyperparameters are its node of that name.
        data: the training set, as far as the method may know it; without it, the student's classes.

    Raises:
        UnknownNameError: no such method.
        IncompatibleError: it is undefined for this pair.
        ConfigError: a hyperparameter is out of range.
    """
    cls = distillers.get(name)
    specs = [network if network is None or isinstance(network, ModelSpec) else network.spec for network in (student, teacher)]
    assert specs[0] is not None
    node = cfg.get(cls.name.upper(), CfgNode()) if cfg is not None else CfgNode()
    seed = cfg.EXPERIMENT.SEED if cfg is not None and "EXPERIMENT" in cfg else 0
    return cls(specs[0], specs[1], node, data or DataInfo(specs[0].num_classes), seed=seed)


def list_distillers(pattern: str = "*") -> list[str]:
    """Registered method names that fit a wildcard."""
    return distillers.names(pattern)
