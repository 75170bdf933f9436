"""Strict YAML of bounded size and depth: what is wrong with a text is one line, whatever the text is."""

from __future__ import annotations

import codecs
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from kdbench.errors import ConfigError, shown

#: of a file, in bytes: the largest grid of this project has 4,000
LARGEST_FILE = 1_000_000
#: values of a file, each alias counted as all that it stands for
MOST_VALUES = 100_000
#: lists and mappings within each other
DEEPEST = 50
_LONGEST_NUMBER = 100  # digits
_LONGEST_REASON = 300  # letters


class StrictLoader(yaml.SafeLoader):
    """YAML in which a duplicate key is an error, and whose size and depth have limits. ``name`` is what messages call it.

    Raises:
        ConfigError: one key twice, a key that is a list or a mapping, or too many values, too deep.
        yaml.YAMLError: no YAML, or a value that is none of its type.
    """

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ConfigError(f"{self.name}:{self.line + 1}: more than {DEEPEST} lists and mappings within each other")
        node = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        check_size(node, str(self.name))
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            if node.tag == "tag:yaml.org,2002:int" and len(node.value) > _LONGEST_NUMBER:
                raise ValueError("too many digits")
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{shown(node.value, 60)} is no {kind} ({str(error)[:60]})", node.start_mark
            ) from None


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise ConfigError(f"{loader.name}:{key_node.start_mark.line + 1}: a key is a text, got {shown(key)}")
        if key in result:
            raise ConfigError(f"{loader.name}:{key_node.start_mark.line + 1}: key {shown(key)} stands twice")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def check_size(root: yaml.Node | None, name: str) -> None:
    """Refuse a text that stands for very many values: a few lines of aliases of aliases can stand for billions.

    Args:
        root: the text's node; None for an empty one.
        name: what the message calls the text.

    Raises:
        ConfigError: there are too many, it is too deep, or a value holds itself.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        known = sizes.get(id(node))
        if known == 0:
            raise ConfigError(f"{name}:{node.start_mark.line + 1}: an alias stands within what it stands for")
        if depth > DEEPEST:
            raise ConfigError(f"{name}: more than {DEEPEST} lists and mappings within each other")
        if known is None:
            sizes[id(node)] = 0
            parts = [] if isinstance(node, yaml.ScalarNode) else node.value
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in parts for part in pair]
            known = sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        return known

    if root is not None and size(root, 1) > MOST_VALUES:
        raise ConfigError(f"{name}: stands for more than {MOST_VALUES:,} values; write out what its aliases repeat")


def parse(text: str, name: str) -> Any:
    """The value that a YAML text stands for; None for an empty one.

    Args:
        text: one document.
        name: what messages call it.

    Raises:
        ConfigError: it is none, has a key twice or of a strange kind, or is too large.
    """
    try:
        loader = StrictLoader(text)
        loader.name = name
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: no valid YAML: {_reason(error)}") from None


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte-order mark.

    Raises:
        ConfigError: it cannot be read, is too large, or is in another encoding.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > LARGEST_FILE:
        raise ConfigError(f"{path}: larger than {LARGEST_FILE:,} bytes; a configuration is a short text")
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not a text file in UTF-8 (byte {raw[error.start]:#04x})") from None


def _reason(error: yaml.YAMLError) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
