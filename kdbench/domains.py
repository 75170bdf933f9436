"""Domains of configuration values, written as literals beside the defaults.

A domain is a text such as ``"(0, inf)"``, ``"[0, 1)"`` or ``"-1 or [0, 1]"`` (intervals and single numbers, of every number of
a list), or a tuple of words. NaN and infinity lie in none.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kdbench.errors import did_you_mean, shown

Domain = str | tuple[str, ...]
_SHOWN = 12  # numbers of a list in a message
_INTERVAL = re.compile(r"([\[(])\s*(\S+?)\s*,\s*(\S+?)\s*([\])])")


def violation(value: Any, domain: Domain) -> str | None:
    """What is wrong with a value, naming it and the domain; None where it lies inside.

    Raises:
        ValueError: the domain itself cannot be read.
    """
    if isinstance(domain, tuple):
        if value in domain:
            return None
        words = ", ".join(word or "''" for word in domain)
        return f"{shown(value)} is none of {words}{did_you_mean(str(value), domain)}"
    holds = parse(domain)
    for part in _leaves(value):
        if isinstance(part, bool) or not isinstance(part, (int, float)):
            return f"expects numbers in {domain}, got {_show(part)} in {_show(value)}"
        if not holds(part):
            return f"{_show(part)}{'' if part is value else f' in {_show(value)}'} lies outside {domain}"
    return None


def violations(node: Mapping[str, Any], domains: Mapping[str, Domain]) -> Iterator[tuple[str, str]]:
    """(dotted key, what is wrong) for every value of a tree that lies outside its domain; absent keys are left out."""
    for key, domain in domains.items():
        value: Any = node
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            message = violation(value, domain)
            if message is not None:
                yield key, message


def as_statistics(value: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """``(mean, std)`` of three channels as numbers; None for what is no finite mean and finite, positive standard deviation."""
    try:
        mean, std = (tuple(float(number) for number in part) for part in value)
    except (TypeError, ValueError, OverflowError):
        return None
    sound = len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0
    return (mean, std) if sound else None


def show(domain: Domain) -> str:
    """A domain as tables write it."""
    return domain if isinstance(domain, str) else ", ".join(word or "''" for word in domain)


@functools.cache
def parse(domain: str) -> Callable[[float], bool]:
    """The domain as a function that says whether a number lies in it.

    Raises:
        ValueError: it is neither intervals nor numbers joined by "or".
    """
    parts = [_part(text.strip(), domain) for text in domain.split(" or ")]
    return lambda value: (
        math.isfinite(value)
        and any(
            (low < value or (closed_low and low == value)) and (value < high or (closed_high and high == value))
            for low, high, closed_low, closed_high in parts
        )
    )


def _part(text: str, domain: str) -> tuple[float, float, bool, bool]:
    found = _INTERVAL.fullmatch(text)
    try:
        if found is None:
            return float(text), float(text), True, True
        low, high = float(found[2]), float(found[3])
    except ValueError:
        raise ValueError(f"no domain: {domain!r}; write intervals or numbers joined by ' or '") from None
    if not low < high:
        raise ValueError(f"no domain: {domain!r} has an empty interval")
    return low, high, found[1] == "[", found[4] == "]"


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _show(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        rest = ", ..." if len(value) > _SHOWN else ""
        return f"[{', '.join(map(_show, value[:_SHOWN]))}{rest}]"
    return f"{value:g}" if isinstance(value, float) and not isinstance(value, bool) else shown(value)
