"""The order of a folder's classes: torchvision sorts by code point, timm naturally (``class2`` before ``class10``)."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdbench.errors import DataError, did_you_mean

log = logging.getLogger(__name__)
CODE_POINT, NATURAL = "code_point", "natural"
_KEY = "DATASET.OPTIONS.class_order"
_LARGEST_FILE = 10_000_000


def natural_key(name: str) -> list[Any]:
    """timm's key (``timm.utils.natural_key``): runs of digits count as numbers, letters without their case."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


def order_classes(names: Sequence[str], order: str | Sequence[str], where: str | Path) -> list[str]:
    """Names of classes in the order of their labels.

    Args:
        names: the classes that are there.
        order: empty (by code point, and a message where timm's order is another), ``code_point``, ``natural``, the names in their
            order, or a file with one name a line.
        where: what messages call the data set.

    Raises:
        DataError: no such order, a file that cannot be read, or other names than those that are there.
    """
    found, natural = sorted(names), sorted(sorted(names), key=natural_key)
    if isinstance(order, str) and order in ("", CODE_POINT):
        if not order and found != natural:
            here, there = next(pair for pair in zip(found, natural) if pair[0] != pair[1])
            log.info(
                "%s: timm numbers its classes in another order: %r is number %d here (code points, as in torchvision), %r is it "
                "there; %s: natural takes timm's",
                *(where, here, found.index(here), there, _KEY),
            )
        return found
    if isinstance(order, str):
        return natural if order == NATURAL else _checked(found, _read(order), f"{order} ({_KEY})", where)
    if not isinstance(order, (list, tuple)) or not all(isinstance(name, (str, int)) for name in order):
        raise DataError(f"{_KEY} expects {CODE_POINT}, {NATURAL}, a list of names or a file, got {order!r}")
    return _checked(found, [str(name) for name in order], _KEY, where)


def _read(name: str) -> list[str]:
    path = Path(name)
    if not path.is_file():
        near = did_you_mean(name, (CODE_POINT, NATURAL))
        raise DataError(f"{_KEY} {name!r} is none of {CODE_POINT} and {NATURAL}, and no file{near}")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise DataError(f"{path}: too large for a list of classes ({_KEY})")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as text ({error}); {_KEY} names a file with one class a line"
        ) from None
    return [line.strip() for line in lines if line.strip()]


def _checked(found: list[str], named: list[str], what: str, where: str | Path) -> list[str]:
    twice = sorted({name for name in named if named.count(name) > 1}) if len(set(named)) < len(named) else []
    if twice:
        raise DataError(f"{what} names class {twice[0]!r} twice")
    missing, strange = sorted(set(found) - set(named)), sorted(set(named) - set(found))
    if strange:
        raise DataError(f"{what} names {strange[0]!r}, which is no class of {where}{did_you_mean(strange[0], found)}")
    if missing:
        raise DataError(f"{what} does not name class {missing[0]!r} of {where} ({len(missing)} missing in all)")
    return named
