"""What a method may declare, checked when it is registered."""

from __future__ import annotations

import re
from typing import Any

from kdbench.config.defaults import defaults
from kdbench.data.augmentation.looks import LOOKS
from kdbench.domains import violations
from kdbench.models.spec import OUTPUT_KINDS

_SECTIONS = frozenset(defaults())  # of every configuration


def check_declaration(name: str, cls: Any) -> None:
    """Refuse what no configuration could speak of, and needs that no network can meet.

    Args:
        name: of the method.
        cls: its class, a :class:`kdbench.Distiller`.

    Raises:
        TypeError: a name or a default that no configuration can hold, an output kind that does not exist, or a domain that cannot
            be read or that its default lies outside.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise TypeError(
            f"@register_distiller({name!r}): a method's name is a letter, then letters, digits and underscores"
        )
    if name.upper() in _SECTIONS:
        raise TypeError(
            f"@register_distiller({name!r}): {name.upper()} is a section of every configuration; choose another name"
        )
    todo = [("", cls.defaults)]
    while todo:
        prefix, node = todo.pop()
        for key, value in node.items():
            if not isinstance(key, str) or not key or "." in key:
                raise TypeError(
                    f"{name}: default {prefix}{key!r}: a key is a word without dots; nest a dictionary instead"
                )
            if isinstance(value, dict):
                todo.append((f"{prefix}{key}.", value))
            elif not isinstance(value, (bool, int, float, str, list, tuple)):
                raise TypeError(
                    f"{name}: default {prefix}{key} is {value!r}; expects a number, a text, a truth value or a list"
                )
    for needs in (cls.teacher_needs, cls.student_needs):
        unknown = set(needs) - set(OUTPUT_KINDS)
        if unknown:
            raise TypeError(f"{name}: no output kind is called {sorted(unknown)}; there are {OUTPUT_KINDS}")
    if not isinstance(cls.looks, tuple) or not set(cls.looks) <= set(LOOKS):
        raise TypeError(f"{name}: looks is {cls.looks!r}; expects a tuple of names among {tuple(LOOKS)}")
    if not isinstance(cls.task_terms, tuple) or not all(isinstance(term, str) for term in cls.task_terms):
        raise TypeError(f"{name}: task_terms is {cls.task_terms!r}; expects a tuple of names of loss terms")
    try:
        broken = dict(violations(cls.defaults, cls.domains))
    except ValueError as error:
        raise TypeError(f"{name}: {error}") from None
    if broken:
        raise TypeError(f"{name}: a default lies outside its domain: {broken}")
