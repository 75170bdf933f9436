"""Configurations: a yacs tree built from YAML files and overrides, checked as a whole, frozen.

What yacs lets slip is closed here: every call gives a fresh tree, an int is accepted for a float, ``K=V`` and ``K V`` both
work, YAML is strict (a duplicate key is an error, Python files are not configurations), lists become tuples, and all
errors of a configuration are reported together with file, key and nearest valid name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from kdbench.config_checks import broken_rules
from kdbench.config_defaults import DOMAINS, FOREIGN_METHODS, IGNORED, Tree, defaults
from kdbench.config_values import StrictLoader, Text, as_tuple, convert, decode, fresh
from kdbench.distillers.registry import declarations
from kdbench.domains import Domain, violations
from kdbench.errors import ConfigError, did_you_mean

log = logging.getLogger(__name__)
_MAX_DEPTH = 3  # a file, its base, and the base's base
NO_TEACHER = ("NONE", "VANILLA")


@dataclass
class Setting:
    """A value that a user gave, and where."""

    key: str
    value: Any
    source: str


@dataclass
class _Problems:
    lines: list[str] = field(default_factory=list)

    def add(self, setting: Setting, message: str) -> None:
        self.lines.append(f"{setting.source}: {setting.key}: {message}")

    def raise_if_any(self) -> None:
        if self.lines:
            head = "" if len(self.lines) == 1 else f"{len(self.lines)} errors in the configuration: "
            raise ConfigError(head + "; ".join(self.lines))


def load_config(path: str | Path | None = None, overrides: Sequence[str] | Mapping[str, Any] = ()) -> CfgNode:
    """Read, merge and check a configuration.

    Args:
        path: a YAML file; its ``_BASE_`` names a file (relative to it) whose values it changes.
        overrides: ``["SOLVER.LR", "0.1"]``, ``["SOLVER.LR=0.1"]`` or ``{"SOLVER.LR": 0.1}``; they win over the file.

    Returns:
        A frozen tree of its own. Of the methods' nodes it holds those that ``DISTILLER.TYPE`` names.

    Raises:
        ConfigError: anything that is wrong, all of it in one message.
        UnknownNameError: the method does not exist.
    """
    settings = [] if path is None else list(flatten(read_yaml(Path(path)), str(path)))
    settings += parse_overrides(overrides)
    return build_config(settings)


def build_config(settings: Sequence[Setting]) -> CfgNode:
    """Check settings against the tree and freeze the result; see :func:`load_config`."""
    distillers = declarations()
    problems = _Problems()
    methods = _method_names(settings)
    tree = defaults()
    nodes = {name.upper(): fresh(distillers.get(name).defaults) for name in distillers.names()}
    tree.update({name: node for name, node in nodes.items() if node})
    _apply_preset(tree, methods, settings)
    for setting in settings:
        _apply(tree, setting, problems)
    used = {name.upper() for name in methods}
    domains = {**DOMAINS}
    for name in methods:
        domains |= {f"{name.upper()}.{key}": domain for key, domain in distillers.get(name).domains.items()}
    _check_values(tree, domains, settings, problems)
    problems.raise_if_any()
    tree["DISTILLER"]["TYPE"] = "+".join(distillers.get(name).name for name in methods)
    return _freeze({key: value for key, value in tree.items() if key not in nodes or key in used})


def to_dict(node: Any) -> Any:
    """A plain tree of dictionaries and lists, as YAML and JSON write it."""
    if isinstance(node, Mapping):
        return {key: to_dict(value) for key, value in node.items()}
    return [to_dict(v) for v in node] if isinstance(node, (tuple, list)) else node


def read_yaml(path: Path, _chain: tuple[Path, ...] = ()) -> Tree:
    """One YAML file with its ``_BASE_`` merged in.

    Raises:
        ConfigError: missing file, no YAML, a cycle of bases, or more than two bases above each other.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: a configuration is a .yaml file")
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else [])
        raise ConfigError(f"no configuration file {str(path)!r}{near}")
    resolved = path.resolve()
    if resolved in _chain:
        raise ConfigError(f"{path}: _BASE_ leads back to itself")
    if len(_chain) >= _MAX_DEPTH:
        raise ConfigError(f"{path}: more than {_MAX_DEPTH - 1} _BASE_ files above each other")
    try:
        loader = StrictLoader(path.read_text(encoding="utf-8"))
        loader.name = str(path)
        tree = loader.get_single_data() or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values")
    base = tree.pop("_BASE_", None)
    if base is None:
        return tree
    return merge_trees(read_yaml(path.parent / str(base), (*_chain, resolved)), tree)


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
        return [Setting(key, value, "override") for key, value in overrides.items()]
    settings, tokens = [], list(overrides)
    while tokens:
        token = tokens.pop(0)
        key, equals, text = token.partition("=")
        if not equals:
            if not tokens:
                raise ConfigError(f"override {token!r} has no value; write KEY=VALUE or KEY VALUE")
            text = tokens.pop(0)
        settings.append(Setting(key, Text(text), "override"))
    return settings


def _method_names(settings: Sequence[Setting]) -> list[str]:
    distillers = declarations()
    kind = str(next((s.value for s in reversed(settings) if s.key == "DISTILLER.TYPE"), "NONE"))
    names = [part.strip() for part in kind.split("+")]
    for name in names:
        if name not in distillers and name.upper() in FOREIGN_METHODS:
            raise ConfigError(f"DISTILLER.TYPE: {name} is a method of mdistiller that kdbench does not have")
    return [distillers.canonical(name) for name in names]


def _apply_preset(tree: Tree, methods: Sequence[str], settings: Sequence[Setting]) -> None:
    distillers = declarations()
    preset = next((str(s.value) for s in reversed(settings) if s.key == "DISTILLER.PRESET"), "")
    if not preset:
        return
    known = {name for method in methods for name in distillers.get(method).presets}
    if preset not in known:
        raise ConfigError(
            f"DISTILLER.PRESET: {'+'.join(methods)} has no preset {preset!r}{did_you_mean(preset, known)}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    for method in methods:
        values = dict(distillers.get(method).presets.get(preset, {}))
        for section in ("TEACHER", "STUDENT"):  # of a network, not of the method
            tree[section] = merge_trees(tree[section], values.pop(section, {}))
        tree[method.upper()] = merge_trees(tree.get(method.upper(), {}), values)


def _apply(tree: Tree, setting: Setting, problems: _Problems) -> None:
    parts = setting.key.split(".")
    if parts[0] in FOREIGN_METHODS:
        return
    node: Any = tree
    for depth, part in enumerate(parts):
        if not isinstance(node, dict) or (part not in node and "OPTIONS" not in parts[:depth]):
            where = ".".join(parts[:depth])
            choices = list(node) if isinstance(node, dict) else []
            near = did_you_mean(part, choices)
            problems.add(setting, f"unknown key {part!r}{' in ' + where if where else ''}{near}")
            return
        if depth < len(parts) - 1:
            node = node.setdefault(part, {})
    if setting.key in IGNORED and setting.value != node[parts[-1]]:
        log.info("%s is ignored: %s", setting.key, IGNORED[setting.key])
    if "OPTIONS" in parts[:-1]:
        node[parts[-1]] = decode(setting.value) if isinstance(setting.value, Text) else fresh(setting.value)
        return
    try:
        node[parts[-1]] = convert(setting.key, setting.value, node[parts[-1]])
    except ValueError as error:
        problems.add(setting, str(error))


def _check_values(tree: Tree, domains: Mapping[str, Domain], settings: Sequence[Setting], problems: _Problems) -> None:
    source = {s.key: s for s in settings}
    found: dict[str, list[str]] = {}
    for key, message in [*broken_rules(tree), *violations(tree, domains)]:
        found.setdefault(key, []).append(message)
    for key, message in ((key, "; ".join(messages)) for key, messages in found.items()):
        problems.add(source.get(key, Setting(key, None, "default")), message)


def _freeze(tree: Tree) -> CfgNode:
    cfg = CfgNode({key: _to_node(value) for key, value in tree.items()})
    cfg.freeze()
    return cfg


def _to_node(value: Any) -> Any:
    if isinstance(value, Mapping):
        return CfgNode({key: _to_node(v) for key, v in value.items()})
    return as_tuple(value)
