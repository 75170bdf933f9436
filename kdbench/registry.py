"""Registries of methods, models and data sets: register by decorator, look up, list with wildcards."""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from kdbench.errors import KdbenchError, UnknownNameError, nearest
from kdbench.plugins import DATASETS, METHODS, MODELS, TRACKERS, entry_points

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to objects, whatever the case of the letters.

    ``package`` is imported with all its modules at the first look-up, and the entry points of ``group`` are
    loaded, so that a method is registered by lying in the right folder or in an installed third-party package. Without a
    package it holds what is added to it.
    """

    def __init__(self, kind: str, package: str = "", group: str = "", hint: str = "") -> None:
        self.kind = kind
        self.package = package
        self.group = group
        self.hint = hint
        self._entries: dict[str, tuple[str, T]] = {}
        self._hidden: set[str] = set()
        self._loaded = not package
        #: grows with every entry that comes or goes, so that what was made of the entries can be kept
        self.version = 0

    def add(self, name: str, obj: T, *, hidden: bool = False) -> None:
        """Register ``obj`` as ``name``; a hidden name is found but not listed.

        Raises:
            KdbenchError: another object has that name (the same definition loaded twice is no conflict).
        """
        known = self._entries.get(name.lower())
        if known is not None and _origin(known[1]) != _origin(obj):
            raise KdbenchError(
                f"{self.kind} {name!r} is registered already, by {_origin(known[1])}; choose another name"
            )
        self._entries[name.lower()] = (name, obj)
        self.version += 1
        if hidden:
            self._hidden.add(name.lower())

    def remove(self, name: str) -> None:
        """Forget what is registered as ``name``, if anything is: a test takes back what it added."""
        if self._entries.pop(name.lower(), None) is not None:
            self._hidden.discard(name.lower())
            self.version += 1

    @property
    def untouched(self) -> bool:
        """Whether nothing was added or looked up yet, so that all that it will hold lies in its package and in plug-ins."""
        return not self._entries and not self._loaded

    def load(self) -> None:
        """Import every module of the package and every installed plug-in, once."""
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, self.package + "."):
            importlib.import_module(module.name)
        for entry in entry_points(self.group):
            entry.load()

    def __contains__(self, name: object) -> bool:
        self.load()
        return isinstance(name, str) and name.lower() in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: str) -> T:
        """The object registered as ``name``.

        Raises:
            UnknownNameError: nothing has that name; the message lists the nearest ones.
        """
        self.load()
        try:
            return self._entries[name.lower()][1]
        except KeyError:
            raise self.unknown(name) from None

    def canonical(self, name: str) -> str:
        """``name`` as it was written when it was registered."""
        self.get(name)
        return self._entries[name.lower()][0]

    def unknown(self, name: str, *, hint: str | None = None) -> UnknownNameError:
        """The error for a name that is not registered."""
        near = nearest(name, self.names())
        hint = self.hint if hint is None else hint
        choice = f"did you mean {', '.join(map(repr, near))}?" if near else f"known: {', '.join(self.names())}"
        return UnknownNameError(f"unknown {self.kind} {name!r}; {choice}{'  ' + hint if hint else ''}")

    def aliases(self, name: str) -> list[str]:
        """Hidden names of the object that is registered as ``name``, sorted."""
        obj = self.get(name)
        return sorted(found for key, (found, other) in self._entries.items() if key in self._hidden and other is obj)

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that fit a shell wildcard, sorted, upper and lower case alike."""
        self.load()
        shown = [name for key, (name, _) in self._entries.items() if key not in self._hidden]
        found = [name for name in shown if fnmatch.fnmatch(name.lower(), pattern.lower())]
        return sorted(found, key=str.lower)


def _origin(obj: Any) -> str:
    name = getattr(obj, "__qualname__", None) or getattr(type(obj), "__qualname__", repr(obj))
    return f"{getattr(obj, '__module__', '?')}.{name}"


#: the registries; ``kdbench.distillers.base``, ``kdbench.models.registry``, ``kdbench.data.source`` and
#: ``kdbench.engine.training.tracking.tracker`` say what is in them
distillers: Registry[Any] = Registry(
    "method",
    "kdbench.distillers",
    METHODS,
    "`kdbench list methods` shows them all; --import MODULE registers your own.",
)
models: Registry[Any] = Registry(
    "model", "kdbench.models", MODELS, "Any timm model is 'timm:<name>'; `kdbench list models` shows the others."
)
datasets: Registry[Any] = Registry(
    "data set",
    "kdbench.data",
    DATASETS,
    "`kdbench list datasets` shows them all; an image folder is 'folder:<path>', a list of files 'csv:<file>'.",
)
trackers: Registry[Any] = Registry(
    "tracker", "kdbench.engine.training.tracking", TRACKERS, "IMPORTS or --import MODULE registers your own."
)
