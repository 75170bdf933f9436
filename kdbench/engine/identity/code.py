"""The code behind a run: what the user brought is part of what the run is, kdbench's own part of its record."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType, ModuleType
from typing import Any

from yacs.config import CfgNode

from kdbench.config.teachers import AND, each_teacher
from kdbench.data.build import builder_of
from kdbench.distillers.create import method_classes
from kdbench.models.names import find_entry
from kdbench.plugins import module_label, source_digest, source_digest_of

#: packages whose releases are recorded by version
_RELEASED = ("kdbench", "torch", "torchvision", "timm")
_BASE = "kdbench.distillers.base"
_INSTALLED = ("site-packages", "dist-packages")
_PYTHON = tuple({os.path.abspath(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib")})


@dataclass(frozen=True)
class Code:
    """Digests of source by what it is.

    Attributes:
        brought: of modules that define the run's methods, networks and data set and are not kdbench's, torch's, torchvision's or
            timm's, by name, with the user's modules that they import. Part of a run's identity.
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
        teacher: network (or several, ``a + b``) in the place of ``DISTILLER.TEACHER``, which in a grid's cell is the grid's name.

    Raises:
        UnknownNameError: a name that is not registered.
    """
    brought: dict[str, str] = {}
    own: dict[str, str] = {}
    named = [one.DISTILLER.TEACHER for one in each_teacher(cfg)]
    for part in _parts(cfg, named if teacher is None else teacher.split(AND)):
        if _is_released(part):
            continue
        module = sys.modules.get(part.__module__)
        digest = source_digest(module) if module is not None else ""
        if module is None or not digest:  # typed into an interpreter
            brought[f"{part.__module__}.{part.__qualname__}"] = _without_file(part)
            continue
        _add(brought, module_label(module), source_digest(module))
        for name, used in _used(module, _of_the_user(module)).items():
            _add(brought, module_label(sys.modules.get(name, name)), used)
    for cls in method_classes(cfg.DISTILLER.TYPE):
        for module in _kdbench_modules(cls):
            own |= {module.__name__: source_digest(module), **_used(module, _is_method_code)}
    return Code(brought, own)


def _add(digests: dict[str, str], label: str, digest: str) -> None:
    """Put a digest under its label, numbered where another file of that name is there."""
    numbered, number = label, 1
    while digests.get(numbered, digest) != digest:
        number += 1
        numbered = f"{label} ({number})"
    digests[numbered] = digest


def _parts(cfg: CfgNode, teachers: Sequence[str]) -> Iterator[Any]:
    """Classes and functions that make a run's methods, networks and data."""
    for cls in method_classes(cfg.DISTILLER.TYPE):
        yield from cls.__mro__[:-1]
    for name in filter(None, (*teachers, cfg.DISTILLER.STUDENT)):
        build = find_entry(name).build
        yield from getattr(build, "classes", (_function(build),))
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


def _is_method_code(name: str, file: str) -> bool:
    return name.startswith("kdbench.distillers.") and name != _BASE


def _of_the_user(module: ModuleType) -> Callable[[str, str], bool]:
    """Whether another module belongs to the same code: of an installed package, what lies in that package; otherwise every module
    that is neither installed nor part of Python."""
    top = module.__name__.partition(".")[0]
    installed = _is_installed(os.path.abspath(module.__file__ or ""))

    def belongs(name: str, file: str) -> bool:
        other = name.partition(".")[0]
        if other in _RELEASED or other in sys.stdlib_module_names:
            return False
        return other == top if installed else not _is_installed(file)

    return belongs


def _is_installed(file: str) -> bool:
    places = set(file.split(os.sep))
    return bool(places & set(_INSTALLED)) or any(file.startswith(path + os.sep) for path in _PYTHON)


def _used(module: ModuleType, belongs: Callable[[str, str], bool]) -> dict[str, str]:
    """Digests of the modules that ``module`` imports, anywhere in its source, or holds something of, and of those that they do, by
    name, as far as they belong to it."""
    found: dict[str, str] = {}
    seen, todo = {module.__name__}, [(module.__name__, os.path.abspath(module.__file__ or ""))]
    while todo:
        name, file = todo.pop()
        loaded = sys.modules.get(name)
        for other in {*_named_in(file, source_digest_of(file), _package(name, file)), *_held_by(loaded)} - seen:
            seen.add(other)
            place = _file_of(other)
            if place and belongs(other, place):
                known = sys.modules.get(other)
                found[other] = source_digest(known) if known is not None else source_digest_of(place)
                todo.append((other, place))
    return found


@functools.lru_cache(maxsize=1024)
def _named_in(file: str, digest: str, package: str) -> frozenset[str]:
    """Modules that the import statements of a file may mean."""
    try:
        with open(file, "rb") as stream:
            tree = ast.parse(stream.read())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(part for name in names for part in _and_above(name))


def _and_above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1) if parts[0]]


def _held_by(module: ModuleType | None) -> set[str]:
    values = list(vars(module).values()) if module is not None else []
    names = (v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", None) for v in values)
    return {name for name in names if isinstance(name, str)}


def _package(name: str, file: str) -> str:
    return name if os.path.basename(file) == "__init__.py" else name.rpartition(".")[0]


def _file_of(name: str) -> str:
    """The source file of a module, loaded or not; empty where there is none. Nothing is imported to find it."""
    known = sys.modules.get(name)
    if known is not None:
        file = getattr(known, "__file__", None)
    elif "." in name:
        above, _, last = name.rpartition(".")
        folder = os.path.dirname(_file_of(above)) if os.path.basename(_file_of(above)) == "__init__.py" else ""
        places = (os.path.join(folder, f"{last}.py"), os.path.join(folder, last, "__init__.py"))
        file = next((place for place in places if folder and os.path.isfile(place)), None)
    else:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        file = spec.origin if spec is not None else None
    return os.path.abspath(file) if file and file.endswith(".py") and os.path.isfile(file) else ""


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
