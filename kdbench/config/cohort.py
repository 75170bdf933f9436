"""Which runs see the same batches and the same teacher; without torch, so that grids can put them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from kdbench.catalogue import methods
from kdbench.config.load import to_dict
from kdbench.config.teachers import teacher_name
from kdbench.errors import ConfigError

#: keys of SOLVER on which the batches, their order, the teacher's outputs or the way of a step depend
_SOLVER = ("BATCH_SIZE", "EPOCHS", "PRECISION", "CHANNELS_LAST", "COMPILE", "GRAPH")


def shared_settings(cfg: CfgNode) -> dict[str, Any]:
    """All that runs have in common if they see the same batches, by dotted key; the teacher is :func:`teacher_settings`."""
    tree = to_dict(cfg)
    shared: dict[str, Any] = {"EXPERIMENT.SEED": tree["EXPERIMENT"]["SEED"], "LOG.PREFIX": tree["LOG"]["PREFIX"]}
    shared |= {f"SOLVER.{key}": tree["SOLVER"][key] for key in _SOLVER}
    for section in ("DATASET", "AUGMENT", "CACHE", "RUNTIME"):
        shared |= {f"{section}.{key}": value for key, value in tree[section].items()}
    del shared["DATASET.TEST"]
    if tree["AUGMENT"]["MIXUP"] > 0 or tree["AUGMENT"]["CUTMIX"] > 0:  # smoothing is then in the labels of the batch
        shared["SOLVER.LABEL_SMOOTHING"] = tree["SOLVER"]["LABEL_SMOOTHING"]
    return shared


def teacher_settings(cfg: CfgNode) -> dict[str, Any]:
    """What decides over the teacher, by dotted key; empty for a method without one, which goes with any."""
    known = methods()
    if not teacher_name(cfg) or not any(known.get(part.strip()).uses_teacher for part in cfg.DISTILLER.TYPE.split("+")):
        return {}
    return {
        "DISTILLER.TEACHER": cfg.DISTILLER.TEACHER,
        "DISTILLER.TEACHERS": to_dict(cfg.DISTILLER.TEACHERS),
        **{f"TEACHER.{key}": value for key, value in to_dict(cfg.TEACHER).items()},
    }


def check_together(cfgs: Sequence[CfgNode]) -> None:
    """Refuse runs that do not see the same batches and the same teacher.

    Raises:
        ConfigError: names the first key that differs, with both values.
    """
    if not cfgs:
        raise ConfigError("a cohort takes at least one configuration")
    for number, cfg in enumerate(cfgs):
        if not isinstance(cfg, CfgNode) or "DISTILLER" not in cfg:
            raise ConfigError(
                f"member {number} of the cohort is a {type(cfg).__name__}, expects what load_config returns"
            )
    taught = [settings for cfg in cfgs if (settings := teacher_settings(cfg))]
    for group in ([shared_settings(cfg) for cfg in cfgs], taught):
        for other in group[1:]:
            _compare(group[0], other)


def _compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in one.items():
        if other.get(key) != value:
            raise ConfigError(
                f"{key}: the runs of a cohort have one value of it, which decides over their batches or their teacher; got "
                f"{value!r} and {other.get(key)!r}"
            )
