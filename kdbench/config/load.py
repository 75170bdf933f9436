"""Configurations: a yacs tree built from YAML files and overrides, checked as a whole, frozen.

What yacs lets slip is closed here: every call gives a fresh tree, an int is accepted for a float, ``K=V`` and ``K V`` both
work, YAML is strict (a duplicate key is an error, Python files are not configurations), lists become tuples, and all
errors of a configuration are reported together with file, key and nearest valid name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench.catalogue import Method
from kdbench.catalogue import methods as known_methods
from kdbench.config.defaults import DOMAINS, IGNORED, PATHS, PLACED, RENAMED, Tree, defaults
from kdbench.config.effects import NO_TEACHER, idle_keys
from kdbench.config.files import Setting, flatten, merge_trees, parse_overrides, read_settings, read_yaml
from kdbench.config.names import suggestion
from kdbench.config.node import Config
from kdbench.config.rules import broken_rules
from kdbench.config.teachers import complete_teachers, each_tree, read_teachers
from kdbench.config.values import Text, as_tuple, convert, decode, finite, fresh
from kdbench.domains import Domain, violations
from kdbench.errors import ConfigError, did_you_mean, shown
from kdbench.paths import expanded, weights_file

log = logging.getLogger(__name__)
_MOST_TOLD = 20  # errors of a configuration in one message
__all__ = [
    "NO_TEACHER",
    "Setting",
    "build_config",
    "flatten",
    "load_config",
    "merge_trees",
    "parse_overrides",
    "read_yaml",
    "to_dict",
]


@dataclass
class _Problems:
    lines: list[str] = field(default_factory=list)

    def add(self, setting: Setting, message: str) -> None:
        self.lines.append(f"{setting.source}: {setting.key}: {message}")

    def raise_if_any(self) -> None:
        if self.lines:
            head = "" if len(self.lines) == 1 else f"{len(self.lines)} errors in the configuration: "
            rest = len(self.lines) - _MOST_TOLD
            raise ConfigError(head + "; ".join(self.lines[:_MOST_TOLD]) + (f"; and {rest} more" if rest > 0 else ""))


def load_config(
    path: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    purpose: str = "",
) -> CfgNode:
    """Read, merge and check a configuration. Given keys that act on nothing are named in the log.

    Args:
        path: a YAML file, or what one holds as a dictionary; its ``_BASE_`` names a file (relative to it) whose values it changes.
        overrides: ``["SOLVER.LR", "0.1"]``, ``["SOLVER.LR=0.1"]`` or ``{"SOLVER.LR": 0.1}``; they win over the file.
        purpose: what the keys are for. ``train``: those of a teacher that no method uses act on nothing even where no method was
            named; ``teacher``: they make a teacher, and act; ``read``: not training, so that nothing is said of any.

    Returns:
        A frozen tree of its own. Of the methods' nodes it holds those that ``DISTILLER.TYPE`` names.

    Raises:
        ConfigError: anything that is wrong, all of it in one message.
        UnknownNameError: the method does not exist.
    """
    settings = [] if path is None else read_settings(path if isinstance(path, Mapping) else Path(path))
    settings += parse_overrides(overrides)
    taught = {"train": True, "teacher": False}.get(purpose)
    return build_config(settings, idle=None if purpose == "read" else _log_idle, taught=taught)


def build_config(
    settings: Sequence[Setting], *, idle: Callable[[Setting, str, bool], None] | None = None, taught: bool | None = None
) -> CfgNode:
    """Check settings against the tree and freeze the result; see :func:`load_config`.

    Args:
        settings: later ones win.
        idle: called with each own setting that acts on nothing, why, and whether that is worth no more than a note.
        taught: keys of a teacher that no method uses are among them: always, never, or (None) where a method was named.
    """
    distillers = known_methods()
    problems = _Problems()
    settings = [_renamed(setting) for setting in settings]
    methods = _method_names(settings)
    tree = defaults()
    nodes = {name.upper(): fresh(distillers.get(name).defaults) for name in distillers.names()}
    tree.update({name: node for name, node in nodes.items() if node})
    initial = fresh(tree)
    _apply_preset(tree, methods, settings)
    used = {name.upper() for name in methods}
    known = {key: value for key, value in tree.items() if key not in nodes or key in used}
    for setting in settings:
        _apply(tree, setting, problems, known)
    _expand_paths(tree, settings, problems)
    _take_teachers(tree, settings, [distillers.get(name) for name in methods], problems)
    domains = {**DOMAINS}
    for name in methods:
        domains |= {f"{name.upper()}.{key}": domain for key, domain in distillers.get(name).domains.items()}
    _check_values(tree, domains, settings, problems)
    problems.raise_if_any()
    tree["DISTILLER"]["TYPE"] = "+".join(distillers.get(name).name for name in methods)
    for key, why in IGNORED.items():
        if _at(tree, key) != _at(initial, key):
            log.info("%s is ignored: %s", key, why)
    if idle is not None:
        given = {s.key: s for s in settings if s.own}
        changed = [key for key, s in given.items() if isinstance(s.value, Text) or _at(tree, key) != _at(initial, key)]
        named = any(s.key == "DISTILLER.TYPE" for s in settings) if taught is None else taught
        declared = {name.upper(): distillers.get(name) for name in methods}
        for key, why, minor in idle_keys(changed, tree, declared, nodes, taught=named, training=bool(taught)):
            idle(given[key], why, minor)
    return _freeze({key: value for key, value in tree.items() if key not in nodes or key in used})


def _renamed(setting: Setting) -> Setting:
    """A setting under the name that its key has now."""
    if setting.value is False and "off" in DOMAINS.get(setting.key, ()):
        return replace(setting, value="off")  # as YAML reads that word
    if setting.key not in RENAMED:
        return setting
    key, words = RENAMED[setting.key]
    word = words.get(str(setting.value).lower())
    kind = Text if isinstance(setting.value, Text) else str
    return replace(setting, key=key, value=setting.value if word is None else kind(word))


def _at(tree: Mapping[str, Any], key: str) -> Any:
    node: Any = tree
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _log_idle(setting: Setting, why: str, minor: bool) -> None:
    minor = minor and setting.source != "override"
    log.log(logging.INFO if minor else logging.WARNING, "%s: %s has no effect: %s", setting.source, setting.key, why)


def to_dict(node: Any) -> Any:
    """A plain tree of dictionaries and lists, as YAML and JSON write it."""
    if isinstance(node, Mapping):
        return {key: to_dict(value) for key, value in node.items()}
    return [to_dict(v) for v in node] if isinstance(node, (tuple, list)) else node


def _method_names(settings: Sequence[Setting]) -> list[str]:
    distillers = known_methods()
    kind = str(next((s.value for s in reversed(settings) if s.key == "DISTILLER.TYPE"), "NONE"))
    names = [part.strip() for part in kind.split("+")]
    return [distillers.canonical(name) for name in names]


def _apply_preset(tree: Tree, methods: Sequence[str], settings: Sequence[Setting]) -> None:
    distillers = known_methods()
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


def _apply(tree: Tree, setting: Setting, problems: _Problems, known: Tree) -> None:
    """Put a setting into the tree; ``known`` is the part of it from which a key without a node may be meant to be."""
    parts = setting.key.split(".")
    node: Any = tree
    for depth, part in enumerate(parts):
        if not isinstance(node, dict) or (part not in node and "OPTIONS" not in parts[:depth]):
            where = ".".join(parts[:depth])
            rest = ".".join(parts[depth:])
            near = suggestion(rest, known if not depth and "." not in rest else node if isinstance(node, dict) else {})
            problems.add(setting, f"unknown key {shown(part)}{' in ' + where if where else ''}{near}")
            return
        if depth < len(parts) - 1:
            node = node.setdefault(part, {})
    if "OPTIONS" in parts[:-1]:
        option = decode(setting.value) if isinstance(setting.value, Text) else fresh(setting.value)
        if not finite(option):
            problems.add(setting, f"holds a number that is not finite: {shown(option)}")
        node[parts[-1]] = option
        return
    try:
        several = setting.key == "DISTILLER.TEACHERS"
        node[parts[-1]] = (
            read_teachers(setting.value) if several else convert(setting.key, setting.value, node[parts[-1]])
        )
    except ValueError as error:
        problems.add(setting, str(error))


def _expand_paths(tree: Tree, settings: Sequence[Setting], problems: _Problems) -> None:
    source = {s.key: s for s in settings}
    for key in PATHS:
        node, last = tree[key.partition(".")[0]], key.partition(".")[2]
        kind, colon, path = node[last].partition(":") if key == "DATASET.TYPE" else ("", "", node[last])
        if key == "DATASET.TYPE" and kind.lower() not in PLACED:
            continue
        try:
            found = expanded(path)
            node[last] = kind + colon + (weights_file(found) if last == "WEIGHTS" else found)
        except ConfigError as error:
            problems.add(source[key], str(error))


def _take_teachers(tree: Tree, settings: Sequence[Setting], methods: Sequence[Method], problems: _Problems) -> None:
    """Several teachers: their entries written out and checked, and methods that learn from one alone refused."""
    setting = next((s for s in reversed(settings) if s.key == "DISTILLER.TEACHERS"), None)
    if setting is None:
        return
    try:
        complete_teachers(tree)
    except ConfigError as error:
        problems.add(setting, str(error))
        return
    several = tree["DISTILLER"]["TEACHERS"]
    single = [method.name for method in methods if method.uses_teacher and not method.several_teachers]
    if several and single:
        known = known_methods()
        able = ", ".join(name for name in known.names() if known.get(name).several_teachers)
        problems.add(
            setting, f"{single[0]} learns from one teacher, and {len(several)} are named; from several learn {able}"
        )
    for entry, one in zip(several, each_tree(tree)):
        domains = {key: domain for key, domain in DOMAINS.items() if key.startswith("TEACHER.")}
        for key, message in [*broken_rules(one), *violations(one, domains)]:
            if key.startswith("TEACHER."):
                problems.add(setting, f"{entry['MODEL']}: {key.removeprefix('TEACHER.')}: {message}")


def _check_values(tree: Tree, domains: Mapping[str, Domain], settings: Sequence[Setting], problems: _Problems) -> None:
    source = {s.key: s for s in settings}
    found: dict[str, list[str]] = {}
    for key, message in [*broken_rules(tree), *violations(tree, domains)]:
        found.setdefault(key, []).append(message)
    for key, message in ((key, "; ".join(messages)) for key, messages in found.items()):
        # options of a file are one setting
        given = source.get(key) or source.get(key.rpartition(".")[0]) or Setting(key, None, "default")
        problems.add(replace(given, key=key), message)


def _freeze(tree: Tree) -> CfgNode:
    cfg = _to_node(tree)
    cfg.freeze()
    return cfg


def _to_node(tree: Mapping[str, Any], above: str = "") -> CfgNode:
    """A node of nodes. Each is filled after it was made: yacs copies all that a new one is given, once for every level."""
    node = Config()
    for key, value in tree.items():
        full = f"{above}{key}"
        node[key] = _to_node(value, f"{full}.") if isinstance(value, Mapping) else as_tuple(value)
        if not isinstance(value, Mapping) and not _is_plain(node[key]):
            raise ConfigError(f"{full}: {shown(value)} is no number, text, truth value or list of these")
    return node


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Mapping))
