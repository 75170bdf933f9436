"""The registry of methods, and what configurations need to know of them: names, hyperparameters and presets, without torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdbench.domains import Domain
from kdbench.plugins import METHODS, entry_points
from kdbench.registry import Registry
from kdbench.static_index import read_index

if TYPE_CHECKING:
    from kdbench.distillers.base import Distiller

distillers: Registry[type[Distiller]] = Registry(
    "method",
    "kdbench.distillers",
    METHODS,
    "`kdbench list methods` shows them all; --import MODULE registers your own.",
)
_READ = ("defaults", "presets", "domains", "effective")


@dataclass(frozen=True)
class Declaration:
    """What a method declares of its configuration; its :class:`~kdbench.distillers.base.Distiller` has the same attributes."""

    name: str
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]]
    domains: dict[str, Domain]
    effective: dict[str, dict[str, Any] | str]


def declarations() -> Registry[Declaration] | Registry[type[Distiller]]:
    """Every method's name, ``defaults``, ``presets``, ``domains`` and ``effective`` by name.

    Where only this package's own methods can be meant and their files say all of it in literals, they are
    read from the source, which takes a twentieth of a second and no torch. Otherwise this is :data:`distillers` itself.
    """
    if distillers.untouched and not _plugins():
        return _from_source() or distillers
    return distillers


@functools.cache
def _plugins() -> bool:
    return bool(entry_points(METHODS))


@functools.cache
def _from_source() -> Registry[Declaration] | None:
    index = read_index("distillers", "register_distiller")
    if not index.whole or any(entry.unread.intersection(_READ) for entry in index.entries):
        return None
    found: Registry[Declaration] = Registry(distillers.kind, hint=distillers.hint)
    for entry in index.entries:
        method = Declaration(entry.name, *(entry.attributes[key] for key in _READ))
        found.add(entry.name, method)
        for alias in entry.aliases:
            found.add(alias, method, hidden=True)
    return found
