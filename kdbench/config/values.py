"""Values of a configuration: words of a command line, and conversion to the type of a key."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

import yaml

from kdbench.config.defaults import WORD_OR_LIST, WORDS
from kdbench.config.yaml_text import DEEPEST, StrictLoader
from kdbench.errors import shown

#: an epoch of repeated augmentation is a multiple of it, as in timm
_ROUND = 256


class Text(str):
    """A value from the command line, to be read according to the type of its key."""


def decode(text: str) -> Any:
    """A word as Python or else YAML reads it.

    Raises:
        ConfigError: it stands for very many values, or has a key twice.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", SyntaxWarning
            )  # of backslashes and the like, in a word that may be no Python
            value = ast.literal_eval(text)
        if _is_shallow(value):
            return value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return yaml.load(text, StrictLoader)
    except yaml.YAMLError:
        return str(text)


def _is_shallow(value: Any, depth: int = 0) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return depth < DEEPEST and all(_is_shallow(part, depth + 1) for part in parts)


def checkpoint_every(text: str) -> tuple[int, float]:
    """(steps, minutes) of ``SOLVER.CHECKPOINT_EVERY``, one of which is 0; both for ``""``, at the ends of epochs alone.

    Raises:
        ValueError: it is neither ``"500 steps"`` nor ``"10 minutes"``; the message says what was expected.
    """
    if not text:
        return 0, 0.0
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,3})?)\s*(steps?|min(?:utes?)?)\s*", text)
    number = float(found[1]) if found else 0.0
    in_steps = found is not None and found[2].startswith("step")
    if number <= 0 or (in_steps and not number.is_integer()):
        raise ValueError(
            f"expects a number of steps or minutes, such as '500 steps' or '10 minutes', got {shown(text)}"
        )
    return (int(number), 0.0) if in_steps else (0, number)


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
        raise ValueError(f"holds a number that is not finite: {shown(value)}")
    if isinstance(default, dict):
        if isinstance(value, Mapping):
            return fresh(value)
        raise ValueError(f"expects a mapping of keys, got {shown(value)}")
    if key in WORDS:
        words = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if isinstance(words, (list, tuple)) and all(isinstance(word, str) and word for word in words):
            return tuple(words)
        raise ValueError(f"expects a list of names, got {shown(value)}")
    if key in WORD_OR_LIST:
        if isinstance(value, (str, list, tuple)):
            return as_tuple(value) if not isinstance(value, str) else value
        raise ValueError(f"expects a word or a list, got {shown(value)}")
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise ValueError(f"expects True or False, got {shown(value)}")
    if isinstance(default, float):
        number = _number(value)
        if number is not None and math.isfinite(number):
            return float(number)
        raise ValueError(f"expects a number, got {shown(value)}")
    if isinstance(default, int):
        number = _number(value)
        if number is not None and float(number).is_integer() and not isinstance(value, str):
            return int(number)
        raise ValueError(f"expects a whole number, got {shown(value)}")
    if isinstance(default, str):
        if isinstance(value, str):
            return value
        raise ValueError(f"expects text, and YAML reads {shown(value)} as {type(value).__name__}: put it in quotes")
    if isinstance(default, (tuple, list)):
        if isinstance(value, (list, tuple)):
            return as_tuple(value)
        if default and _number(value) is not None:
            return (value,)
        raise ValueError(f"expects a list, got {shown(value)}")
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


def epoch_length(images: int, copies: int = 0) -> int:
    """Samples of an epoch: all images once or, with several copies of each (repeated augmentation), that many rounded down to a
    multiple of 256 where there are so many."""
    return images // _ROUND * _ROUND if copies and images >= _ROUND else images
