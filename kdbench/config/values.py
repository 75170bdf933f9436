"""Values of a configuration: strict YAML, words of a command line, and conversion to the type of a key."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

import yaml

from kdbench.config.defaults import WORD_OR_LIST
from kdbench.errors import ConfigError


class StrictLoader(yaml.SafeLoader):
    """YAML in which a duplicate key is an error."""


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in result:
            raise ConfigError(f"{loader.name}:{key_node.start_mark.line + 1}: key {key!r} stands twice")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


class Text(str):
    """A value from the command line, to be read according to the type of its key."""


def decode(text: str) -> Any:
    """A word as Python or else YAML reads it."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return yaml.load(text, StrictLoader)
    except yaml.YAMLError:
        return str(text)


def fresh(value: Any) -> Any:
    """A copy of a tree that has no dictionary and no list in common with it."""
    if isinstance(value, Mapping):
        return {key: fresh(part) for key, part in value.items()}
    return type(value)(map(fresh, value)) if type(value) in (list, tuple) else value


def convert(key: str, value: Any, default: Any) -> Any:
    """``value`` as the type of ``default``; ValueError with an explanation where that cannot be."""
    if isinstance(value, Text):
        value = str(value) if isinstance(default, str) and key not in WORD_OR_LIST else decode(value)
    if isinstance(value, (Mapping, list, tuple)) and not finite(value):
        raise ValueError(f"holds a number that is not finite: {value!r}")
    if isinstance(default, dict):
        if isinstance(value, Mapping):
            return fresh(value)
        raise ValueError(f"expects a mapping of keys, got {value!r}")
    if key in WORD_OR_LIST:
        if isinstance(value, (str, list, tuple)):
            return as_tuple(value) if not isinstance(value, str) else value
        raise ValueError(f"expects a word or a list, got {value!r}")
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise ValueError(f"expects True or False, got {value!r}")
    if isinstance(default, float):
        number = _number(value)
        if number is not None and math.isfinite(number):
            return float(number)
        raise ValueError(f"expects a number, got {value!r}")
    if isinstance(default, int):
        number = _number(value)
        if number is not None and float(number).is_integer() and not isinstance(value, str):
            return int(number)
        raise ValueError(f"expects a whole number, got {value!r}")
    if isinstance(default, str):
        if isinstance(value, str):
            return value
        raise ValueError(f"expects text, and YAML reads {value!r} as {type(value).__name__}: put it in quotes")
    if isinstance(default, (tuple, list)):
        if isinstance(value, (list, tuple)):
            return as_tuple(value)
        if default and _number(value) is not None:
            return (value,)
        raise ValueError(f"expects a list, got {value!r}")
    raise ValueError(f"has a default of unsupported type {type(default).__name__}")


def _number(value: Any) -> float | int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value if finite(value) else None
    try:  # YAML 1.1 reads 1e-3 as text
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def finite(value: Any) -> bool:
    """Whether no number of a tree is NaN, infinite or too large for a float."""
    if isinstance(value, Mapping):
        return all(map(finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(finite, value))
    try:
        return not isinstance(value, (int, float)) or math.isfinite(value)
    except OverflowError:
        return False


def as_tuple(value: Any) -> Any:
    """Lists become tuples, at every depth."""
    return tuple(as_tuple(v) for v in value) if isinstance(value, (list, tuple)) else value
