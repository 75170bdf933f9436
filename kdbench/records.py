"""JSON files that kdbench writes and reads back: sealed, of a known form, and set aside where they are damaged."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdbench.files import write_atomically
from kdbench.seal import sealed, unsealed

log = logging.getLogger(__name__)
#: whether a value may stand in a field
Kind = Callable[[Any], bool]


def write_record(file: Path, content: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write a record with its seal, as a whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(file, json.dumps(sealed(content), indent=indent) + "\n")


def read_record(
    file: str | os.PathLike[str], kinds: Mapping[str, Kind], optional: Mapping[str, Kind]
) -> dict[str, Any]:
    """A record without its seal. One that was written before there were seals has none; its form is checked all the same.

    Args:
        file: the file.
        kinds: of the fields that it must have.
        optional: of those that it may have; others are left as they are.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged; the message says how.
    """
    with open(file, encoding="utf-8") as stream:
        try:
            document = json.load(stream)
        except (ValueError, RecursionError):
            raise ValueError("it is no JSON") from None
    if not isinstance(document, dict):
        raise ValueError(f"it holds a {type(document).__name__}")
    try:
        record = unsealed(document)
    except RecursionError:
        raise ValueError("it is too deep") from None
    for key, fits in {**kinds, **optional}.items():
        if key not in record:
            if key in kinds:
                raise ValueError(f"it has no {key}")
        elif not fits(record[key]):
            raise ValueError(f"its {key} is {record[key]!r:.40}")
    return record


def set_aside(file: Path, reason: object, then: str) -> None:
    """Rename a damaged file to ``*.damaged``, and say so in one line.

    Args:
        file: the file.
        reason: what is wrong with it.
        then: what becomes of that which it told.
    """
    aside = file.with_name(f"{file.name}.damaged")
    try:
        os.replace(file, aside)
    except OSError as error:
        log.warning("%s is damaged (%s) and cannot be renamed (%s); %s", file, reason, error.strerror, then)
    else:
        log.warning("%s is damaged (%s); it is renamed to %s, and %s", file, reason, aside.name, then)


def is_text(value: Any) -> bool:
    """Any text."""
    return isinstance(value, str)


def is_name(value: Any) -> bool:
    """The name of a file or folder, which leads nowhere else."""
    return isinstance(value, str) and value not in ("", ".", "..") and not any(sign in value for sign in "/\\\0")


def is_count(value: Any) -> bool:
    """A whole number from 0, of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_amount(value: Any) -> bool:
    """A finite number from 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def list_of(kind: Kind) -> Kind:
    """A list of such values."""
    return lambda value: isinstance(value, list) and all(map(kind, value))


def mapping_of(kind: Kind) -> Kind:
    """A mapping to such values."""
    return lambda value: isinstance(value, dict) and all(map(kind, value.values()))


def or_none(kind: Kind) -> Kind:
    """Such a value, or none."""
    return lambda value: value is None or kind(value)
