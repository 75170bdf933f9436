"""The trackers that a configuration names, looked for before anything is trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from yacs.config import CfgNode

from kdbench.engine.training.tracking.tracker import trackers
from kdbench.errors import ConfigError, UnknownNameError


def check_trackers(cfg: CfgNode) -> None:
    """Refuse names that are unknown, and trackers whose packages are not installed.

    Raises:
        ConfigError: says which key, which name, and what to do.
    """
    for _ in _named(cfg):
        pass


def make_trackers(cfg: CfgNode) -> list[Any]:
    """Those of ``LOG.TRACKERS`` and ``LOG.TENSORBOARD``, made for one run.

    Raises:
        ConfigError: see :func:`check_trackers`.
    """
    return [make() for make in _named(cfg)]


def _named(cfg: CfgNode) -> Iterator[Callable[[], Any]]:
    keys = {"tensorboard": "LOG.TENSORBOARD"} if cfg.LOG.TENSORBOARD else {}
    for name in cfg.LOG.TRACKERS:
        keys.setdefault(name.lower(), "LOG.TRACKERS")
    for name, key in keys.items():
        try:
            found = trackers.get(name)
        except UnknownNameError as error:
            raise ConfigError(f"{key}: {error}") from None
        package = getattr(found, "requires", "")
        if package and not _is_there(package):
            raise ConfigError(
                f"{key}: {name} takes the package {package}, which is not installed: pip install {package}"
            )
        yield found


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # one that was taken out of sys.modules, or has no spec
        return False
