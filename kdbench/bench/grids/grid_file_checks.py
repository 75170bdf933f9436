"""What a grid file may hold: the kind of every value, before anything is made of it. Each mistake is one line."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdbench.catalogue import known_model
from kdbench.errors import ConfigError, UnknownNameError, did_you_mean


def check_keys(path: Path, where: str, node: Any, known: set[str], required: Sequence[str] = ()) -> None:
    """Refuse what is no mapping, an unknown key, and a missing one."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path}: {where.rstrip('.') or 'a grid'} expects a mapping, got {node!r}")
    for key in node:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {where}{key}{did_you_mean(str(key), known)}")
    for key in required:
        if key not in node:
            raise ConfigError(f"{path}: {where}{key} is missing")


def as_list(path: Path, tree: Mapping[str, Any], key: str) -> list[Any]:
    """The value of ``key``, a list that is not empty."""
    value = tree[key]
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{path}: {key} expects a list that is not empty, got {value!r}")
    return value


def as_mapping(path: Path, where: str, tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The value of ``key``, a mapping; an absent one is empty."""
    value = tree.get(key, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: {where}{key} expects a mapping of keys to values, got {value!r}")
    return value


def check_texts(path: Path, where: str, tree: Mapping[str, Any], *keys: str) -> None:
    """Refuse what is no text among those of ``keys`` that are there; an empty one, too."""
    for key in keys:
        if key in tree and (not isinstance(tree[key], str) or not tree[key].strip()):
            raise ConfigError(f"{path}: {where}{key} expects a name, got {tree[key]!r}")


def check_name(path: Path, name: str) -> None:
    """Refuse a grid's name that is no folder's below the results."""
    if not re.fullmatch(r"[^\W.][\w .+@=-]*", name):
        raise ConfigError(f"{path}: NAME expects a folder's name (letters, digits, . _ + -), got {name!r}")


def check_seeds(path: Path, seeds: list[Any]) -> None:
    """Refuse seeds that are no whole numbers from 0."""
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"{path}: SEEDS expects whole numbers from 0, got {seed!r}")


def check_network(path: Path, where: str, name: str) -> None:
    """Refuse a network that is not registered."""
    try:
        _look_up(name)
    except UnknownNameError as error:
        raise ConfigError(f"{path}: {where}: {error}") from None


def check_baseline(path: Path, tree: Mapping[str, Any], labels: Sequence[str]) -> str:
    """The method to which gains refer: the named one, which must be there, or KD, or the first."""
    if "BASELINE" not in tree:
        return "KD" if "KD" in labels else labels[0]
    baseline = tree["BASELINE"]
    if baseline not in labels:
        near = did_you_mean(str(baseline), labels)
        raise ConfigError(f"{path}: BASELINE {baseline!r} is none of the methods{near}: {', '.join(labels)}")
    return str(baseline)


@functools.lru_cache(maxsize=1024)
def _look_up(name: str) -> None:
    if known_model(name) is None:
        from kdbench.models.names import find_entry

        find_entry(name)
