"""What a grid file may hold: the kind of every value, before anything is made of it. Each mistake is one line."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdbench.catalogue import is_known_tag, known_model
from kdbench.errors import ConfigError, UnknownNameError, did_you_mean


def check_keys(path: Path, where: str, node: Any, known: Collection[str], required: Sequence[str] = ()) -> None:
    """Refuse what is no mapping, an unknown key, and a missing one.

    Args:
        path: the grid file, for messages; so in all of these functions.
        where: dotted keys that lead to ``node``, with a dot at the end; empty for the file itself.
        node: what stands there.
        known: the keys that it may have.
        required: those that it must have.

    Raises:
        ConfigError: it is one of these.
    """
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path}: {where.rstrip('.') or 'a grid'} expects a mapping, got {node!r}")
    for key in node:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {where}{key}{did_you_mean(str(key), known)}")
    for key in required:
        if key not in node:
            raise ConfigError(f"{path}: {where}{key} is missing")


def as_list(path: Path, tree: Mapping[str, Any], key: str, where: str = "") -> list[Any]:
    """The value of ``key``, which must be there; ``where``: see :func:`check_keys`.

    Raises:
        ConfigError: it is not a list, or an empty one.
    """
    value = tree[key]
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{path}: {where}{key} expects a list that is not empty, got {value!r}")
    return value


def as_mapping(path: Path, where: str, tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The value of ``key``; an empty mapping where it is absent.

    Raises:
        ConfigError: it is not a mapping.
    """
    value = tree.get(key, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: {where}{key} expects a mapping of keys to values, got {value!r}")
    return value


def check_texts(path: Path, where: str, tree: Mapping[str, Any], *keys: str) -> None:
    """Refuse what is no text among those of ``keys`` that are there; an empty one, too.

    Raises:
        ConfigError: one is not a text, or has nothing but blanks.
    """
    for key in keys:
        if key in tree and (not isinstance(tree[key], str) or not tree[key].strip()):
            raise ConfigError(f"{path}: {where}{key} expects a name, got {tree[key]!r}")


def check_name(path: Path, name: str) -> None:
    """Refuse a grid's name that cannot be a folder's below the results.

    Raises:
        ConfigError: it leads elsewhere, begins with a dot, or holds other signs than a folder's name should.
    """
    if not re.fullmatch(r"[^\W.][\w .+@=-]*", name):
        raise ConfigError(f"{path}: NAME expects a folder's name (letters, digits, . _ + -), got {name!r}")


def check_seeds(path: Path, seeds: list[Any], where: str = "") -> None:
    """Refuse seeds that are not whole numbers from 0.

    Raises:
        ConfigError: one is not; the message names it.
    """
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"{path}: {where}SEEDS expects whole numbers from 0, got {seed!r}")


def check_network(path: Path, where: str, name: str) -> None:
    """Refuse a network that is not registered; a name that the catalogue does not hold imports timm or torchvision.

    Raises:
        ConfigError: it is not.
    """
    try:
        _look_up(name)
    except UnknownNameError as error:
        raise ConfigError(f"{path}: {where}: {error}") from None


def check_baseline(path: Path, tree: Mapping[str, Any], labels: Sequence[str]) -> str:
    """The method to which gains refer: ``BASELINE``, or where that is absent KD, or where that is not run the first.

    Args:
        path: the grid file.
        tree: its content.
        labels: the methods' labels, in order; at least one.

    Raises:
        ConfigError: ``BASELINE`` is none of the labels.
    """
    if "BASELINE" not in tree:
        return "KD" if "KD" in labels else labels[0]
    baseline = tree["BASELINE"]
    if baseline not in labels:
        near = did_you_mean(str(baseline), labels)
        raise ConfigError(f"{path}: BASELINE {baseline!r} is none of the methods{near}: {', '.join(labels)}")
    return str(baseline)


@functools.lru_cache(maxsize=1024)
def _look_up(name: str) -> None:
    if known_model(name) is None and not is_known_tag(name):
        from kdbench.models.names import find_entry

        find_entry(name)
