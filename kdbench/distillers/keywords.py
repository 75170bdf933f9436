"""Hyperparameters of methods as keyword arguments: ``temperature=4`` is ``KD.TEMPERATURE``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdbench.distillers.base import Distiller
from kdbench.errors import ConfigError, did_you_mean

#: arguments that are no hyperparameters
_BESIDE = {"seed": "EXPERIMENT.SEED", "preset": "DISTILLER.PRESET"}


def as_settings(classes: Sequence[type[Distiller]], options: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides of a configuration for methods and keyword arguments.

    Args:
        classes: of the methods.
        options: by the end of a key's path in small letters, joined by underscores: ``kd_weight``, ``loss_kd_weight`` or
            ``kd_loss_kd_weight`` for ``KD.LOSS.KD_WEIGHT``.

    Raises:
        ConfigError: no such hyperparameter, or several of that name.
    """
    settings: dict[str, Any] = {"DISTILLER.TYPE": "+".join(cls.name for cls in classes)}
    paths = [path for cls in classes for path in _paths(cls.defaults, (cls.name.upper(),))]
    for option, value in options.items():
        settings[_BESIDE.get(option) or _key(option, paths, settings["DISTILLER.TYPE"])] = value
    return settings


def _key(option: str, paths: Sequence[tuple[str, ...]], method: str) -> str:
    """The key that a keyword argument means: the one whose path it is, else the only one whose path ends so."""
    whole = [path for path in paths if option in (_joined(path), _joined(path[1:]))]
    fits = whole or [path for path in paths if option in {_joined(path[i:]) for i in range(len(path))}]
    if len(fits) == 1:
        return ".".join(fits[0])
    if fits:
        choices = " or ".join(_joined(path if len({p[0] for p in fits}) > 1 else path[1:]) for path in fits)
        raise ConfigError(f"{method}: {option} may be {choices}; write one of them")
    known = list(dict.fromkeys(name for path in paths for name in (path[-1].lower(), _joined(path[1:]))))
    near = did_you_mean(option, [*known, *_BESIDE])
    there = f"; it has {', '.join(dict.fromkeys(path[-1].lower() for path in paths)) or 'none'}"
    raise ConfigError(f"{method} has no hyperparameter {option!r}{near or there}")


def _paths(node: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _paths(value, (*above, key))
        else:
            yield (*above, key)


def _joined(path: Sequence[str]) -> str:
    return "_".join(path).lower()
