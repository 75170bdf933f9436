"""Files and words of a configuration: strict YAML with bases, and overrides, as settings that know where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.config.defaults import Tree
from kdbench.config.values import Text, decode, fresh
from kdbench.config.yaml_text import parse, read_text
from kdbench.errors import ConfigError, did_you_mean, shown
from kdbench.paths import beside, config_path
from kdbench.plugins import import_plugins

#: key of a file that names modules and Python files to import first; no key of a configuration
IMPORTS = "IMPORTS"
#: stands for a file in messages where a dictionary was given
GIVEN = Path("(dictionary)")
_MAX_DEPTH = 3  # a file, its base, and the base's base


@dataclass
class Setting:
    """A value that a user gave, and where."""

    key: str
    value: Any
    source: str
    #: whether it was written for this run: an override, or a key of the file itself and not of its base
    own: bool = True


def read_settings(path: Path | Mapping[str, Any]) -> list[Setting]:
    """The settings of a file, or of what one holds, and its bases; those of the file itself are its ``own``. What it imports is
    imported.

    Raises:
        ConfigError: see :func:`read_yaml`.
        KdbenchError: something cannot be imported.
    """
    own = {setting.key for setting in flatten(_read_one(path), "")}
    tree = read_yaml(path)
    import_plugins(taken_imports(tree))
    merged = flatten(tree, _named(path))
    return [Setting(setting.key, setting.value, setting.source, setting.key in own) for setting in merged]


def read_yaml(path: Path | Mapping[str, Any], _chain: tuple[Path, ...] = ()) -> Tree:
    """One YAML file with its ``_BASE_`` merged in; or what one holds as a dictionary, whose paths are relative to the working
    directory.

    Raises:
        ConfigError: missing or empty file, no YAML, one of very many values, a cycle of bases, or more than two bases above each
            other.
    """
    tree = _read_one(path)
    path = GIVEN if isinstance(path, Mapping) else config_path(path)
    resolved = path.resolve()
    if resolved in _chain:
        raise ConfigError(f"{path}: _BASE_ leads back to itself")
    if len(_chain) >= _MAX_DEPTH:
        raise ConfigError(f"{path}: more than {_MAX_DEPTH - 1} _BASE_ files above each other")
    base = tree.pop("_BASE_", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{path}: _BASE_ expects the path of a file, got {shown(base)}")
    below = read_yaml(config_path(base, path), (*_chain, resolved))
    both = [*below.get(IMPORTS, []), *tree.get(IMPORTS, [])]
    return merge_trees(below, {**tree, **({IMPORTS: list(dict.fromkeys(both))} if both else {})})


def taken_imports(tree: Tree) -> list[str]:
    """What a tree of :func:`read_yaml` imports, taken out of it."""
    found: list[str] = tree.pop(IMPORTS, [])
    return found


def _named(path: Path | Mapping[str, Any]) -> str:
    return str(GIVEN if isinstance(path, Mapping) else path)


def _read_one(path: Path | Mapping[str, Any]) -> Tree:
    """The file alone."""
    if isinstance(path, Mapping):
        return _checked(fresh(path), GIVEN)
    path = config_path(path)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: a configuration is a .yaml file")
    try:
        there = path.is_file()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise ConfigError(f"{shown(str(path))}: cannot be read: {error.strerror}") from None
    if not there:
        near = did_you_mean(path.name, [p.name for p in config_path(path.parent).glob("*.y*ml")])
        raise ConfigError(f"no configuration file {str(path)!r}{near}")
    return _checked(parse(read_text(path), str(path)), path)


def _checked(tree: Any, path: Path) -> Tree:
    """A tree whose imports are told by whole paths."""
    if tree is None:
        raise ConfigError(f"{path}: is empty; a configuration is a mapping of keys to values")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values, got {shown(tree)}")
    if IMPORTS in tree:
        names = [tree[IMPORTS]] if isinstance(tree[IMPORTS], str) else tree[IMPORTS]
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise ConfigError(f"{path}: {IMPORTS} expects modules or .py files, got {shown(tree[IMPORTS])}")
        # a file beside this one, wherever it is read from
        tree[IMPORTS] = [str(beside(path, name).resolve()) if name.endswith(".py") else name for name in names]
    return tree


def merge_trees(base: Mapping[str, Any], top: Mapping[str, Any]) -> Tree:
    """A new tree that shares nothing with the two: ``base`` with the leaves of ``top`` put over it."""
    result = fresh(base)
    for key, value in top.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merge_trees(old, value) if both else fresh(value)
    return result


def flatten(tree: Mapping[str, Any], source: str, prefix: str = "") -> Iterable[Setting]:
    """Leaves of a tree as settings; a key may itself be dotted (``SOLVER.LR: 0.1``)."""
    for key, value in tree.items():
        full = f"{prefix}{key}"
        if isinstance(value, Mapping) and not full.endswith(".OPTIONS"):
            yield from flatten(value, source, f"{full}.")
        else:
            yield Setting(full, value, source)


def parse_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> list[Setting]:
    """Settings from a mapping, or from words of a command line.

    Raises:
        ConfigError: a word without a value.
    """
    if isinstance(overrides, Mapping):
        return [setting for key, value in overrides.items() for setting in _given(key, value)]
    settings, tokens = [], list(overrides)
    while tokens:
        token = tokens.pop(0)
        key, equals, text = token.partition("=")
        if not equals:
            if not tokens:
                raise ConfigError(f"override {token!r} has no value; write KEY=VALUE or KEY VALUE")
            text = tokens.pop(0)
        settings += _given(key, Text(text))
    return settings


def _given(key: str, value: Any) -> list[Setting]:
    """One override; a mapping for a section is one for each of its keys, as it is in a file."""
    tree = decode(value) if isinstance(value, Text) and value.lstrip().startswith("{") else value
    if not isinstance(tree, Mapping) or key.rpartition(".")[2] == "OPTIONS":
        return [Setting(key, value, "override")]
    found = list(flatten({key: tree}, "override"))
    if not found:
        raise ConfigError(f"override: {key}: an empty mapping sets nothing")
    return found
