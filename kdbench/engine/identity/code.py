"""The code behind a run: what the user brought is part of what the run is, kdbench's own part of its record."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import CodeType, ModuleType
from typing import Any

from yacs.config import CfgNode

from kdbench.data.build import builder_of
from kdbench.distillers.create import method_classes
from kdbench.models.names import find_entry
from kdbench.plugins import module_label, source_digest

#: packages whose releases are recorded by version
_RELEASED = ("kdbench", "torch", "torchvision", "timm")
_BASE = "kdbench.distillers.base"
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Code:
    """Digests of source by what it is.

    Attributes:
        brought: of modules that define the run's methods, networks and data set and are not kdbench's, torch's, torchvision's or
            timm's, by name, with those of their own folder or package that they use. Part of a run's identity.
        own: of kdbench's modules that define its methods. Part of a run's record.
    """

    brought: dict[str, str] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """One digest for :attr:`own`."""
        return hashlib.sha256(repr(sorted(self.own.items())).encode()).hexdigest()[:16] if self.own else ""


def code_of(cfg: CfgNode, teacher: str | None = None) -> Code:
    """The code that defines a configuration's methods, networks and data set.

    Args:
        cfg: configuration.
        teacher: network that takes the place of ``DISTILLER.TEACHER``, which in a grid's cell is the grid's own name for it.

    Raises:
        UnknownNameError: a name that is not registered.
    """
    brought: dict[str, str] = {}
    own: dict[str, str] = {}
    for part in _parts(cfg, cfg.DISTILLER.TEACHER if teacher is None else teacher):
        if _is_released(part):
            continue
        module = sys.modules.get(part.__module__)
        digest = source_digest(module) if module is not None else ""
        if module is None or not digest:  # typed into an interpreter
            brought[f"{part.__module__}.{part.__qualname__}"] = _without_file(part)
            continue
        for found in (module, *_used(module, _beside(module))):
            _add(brought, module_label(found), source_digest(found))
    for cls in method_classes(cfg.DISTILLER.TYPE):
        for module in _kdbench_modules(cls):
            own |= {m.__name__: source_digest(m) for m in (module, *_used(module, _is_method_code))}
    return Code(brought, own)


def _add(digests: dict[str, str], label: str, digest: str) -> None:
    """Put a digest under its label, numbered where another file of that name is there."""
    numbered, number = label, 1
    while digests.get(numbered, digest) != digest:
        number += 1
        numbered = f"{label} ({number})"
    digests[numbered] = digest


def _parts(cfg: CfgNode, teacher: str) -> Iterator[Any]:
    """Classes and functions that make a run's methods, networks and data."""
    for cls in method_classes(cfg.DISTILLER.TYPE):
        yield from cls.__mro__[:-1]
    for name in filter(None, (teacher, cfg.DISTILLER.STUDENT)):
        yield _function(find_entry(name).build)
        yield from _timm_function(name)
    yield _function(builder_of(cfg.DATASET.TYPE)[0])


def _function(builder: Any) -> Any:
    while isinstance(builder, functools.partial):
        builder = builder.func
    builder = inspect.unwrap(builder)
    return builder if hasattr(builder, "__qualname__") else type(builder)


def _timm_function(name: str) -> Iterator[Any]:
    """What timm's own registry holds of a name: a plug-in may have registered it there."""
    prefix, _, rest = name.partition(":")
    if prefix == "timm":
        import timm

        rest = rest.partition(".")[0]
        if timm.is_model(rest):
            yield timm.model_entrypoint(rest)


def _is_released(part: Any) -> bool:
    top = part.__module__.partition(".")[0]
    return top in _RELEASED or top in sys.stdlib_module_names


def _kdbench_modules(cls: type) -> list[ModuleType]:
    names = [c.__module__ for c in cls.__mro__ if c.__module__.startswith("kdbench.distillers.")]
    return [sys.modules[name] for name in dict.fromkeys(names) if name != _BASE]


def _is_method_code(module: ModuleType) -> bool:
    return module.__name__.startswith("kdbench.distillers.") and module.__name__ != _BASE


def _beside(module: ModuleType) -> Any:
    """Whether another module belongs to the same code: of the same package, or a file in the same folder or below it."""
    top = module.__name__.partition(".")[0]
    folder = os.path.dirname(os.path.abspath(module.__file__ or ""))
    shared = os.path.basename(folder) in _INSTALLED  # by packages that have nothing to do with each other

    def belongs(other: ModuleType) -> bool:
        if other.__name__.partition(".")[0] in _RELEASED or not source_digest(other):
            return False
        if other.__name__.partition(".")[0] == top:
            return True
        place = os.path.abspath(other.__file__ or "")
        return not shared and place.startswith(folder + os.sep) and not set(_INSTALLED) & set(place.split(os.sep))

    return belongs


def _used(module: ModuleType, belongs: Any) -> Iterable[ModuleType]:
    """Modules that ``module`` names something of, and those that they do, as far as they belong to it."""
    seen = {module.__name__: module}
    todo = [module]
    while todo:
        for value in list(vars(todo.pop()).values()):
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            other = sys.modules.get(name) if isinstance(name, str) else None
            if other is not None and other.__name__ not in seen and belongs(other):
                seen[other.__name__] = other
                todo.append(other)
    return list(seen.values())[1:]


def _without_file(part: Any) -> str:
    try:
        text = inspect.getsource(part)
    except (OSError, TypeError):
        text = repr([_compiled(value) for value in _functions(part)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _functions(part: Any) -> list[CodeType]:
    values = vars(part).values() if isinstance(part, type) else [part]
    unwrapped = [getattr(v, "__func__", getattr(v, "fget", v)) for v in values]
    return [v.__code__ for v in unwrapped if hasattr(v, "__code__")]


def _compiled(code: CodeType) -> list[Any]:
    constants = [_compiled(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_name, code.co_code.hex(), code.co_names, constants]
