"""Names and declarations of the built-in methods and data sets, read from the source without importing it.

Importing torch takes seconds and the best part of a gigabyte; ``kdbench list`` and ``kdbench table`` should not. What is read
is what stands in the files: class attributes that are literals, and docstrings. What cannot be read so is said to be unread.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent


@dataclass
class Declared:
    """A registered class or function as its file declares it.

    Attributes:
        name: under which it is registered.
        summary: first paragraph of its docstring.
        attributes: class attributes, its own and inherited ones.
        aliases: further names, which are not listed.
        unread: names of attributes whose values are no literals, or that a base class from elsewhere may set.
    """

    name: str
    summary: str
    attributes: dict[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()


@dataclass
class Index:
    """What a package registers; ``whole`` = nothing in it registers in a way that cannot be read."""

    entries: list[Declared]
    whole: bool


_UNREAD = object()
#: bases without an attribute that a method declares
_PLAIN = ("nn.Module", "object")
#: what a base class from elsewhere may set
_METHOD = ("defaults", "presets", "domains", "effective", "verified", "reference", "teacher_needs", "student_needs")


def read_index(package: str, decorator: str, root: Path = _ROOT) -> Index:
    """What the files of a package register with ``@<decorator>("name")``, sorted by name.

    Args:
        package: folder below ``root``.
        decorator: name of the function that registers.
        root: folder of the package's parent.
    """
    classes = _Classes()
    found: list[tuple[str, tuple[str, ...], ast.ClassDef | ast.FunctionDef]] = []
    calls = 0
    for file in sorted((root / package).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        body = ast.parse(text).body
        if not any(isinstance(node, ast.FunctionDef) and node.name == decorator for node in body):
            calls += text.count(f"{decorator}(")
        for node in body:
            if isinstance(node, ast.ClassDef):
                classes.add(node)
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found += [(name, aliases, node) for name, aliases in _registered(node, decorator)]
    entries = [_entry(name, aliases, node, classes) for name, aliases, node in found]
    names = [known.lower() for entry in entries for known in (entry.name, *entry.aliases)]
    whole = bool(found) and calls == len(found) and len(set(names)) == len(names)  # none: installed without its source
    return Index(sorted(entries, key=lambda entry: entry.name.lower()), whole)


def _entry(name: str, aliases: tuple[str, ...], node: ast.ClassDef | ast.FunctionDef, classes: _Classes) -> Declared:
    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    if not isinstance(node, ast.ClassDef):
        return Declared(name, text, aliases=aliases)
    found = classes.attributes(node)
    unread = frozenset(key for key, value in found.items() if value is _UNREAD)
    # copies: what two classes inherit, or one takes from another, is not to be one object
    return Declared(name, text, copy.deepcopy({key: found[key] for key in found.keys() - unread}), aliases, unread)


def _registered(node: ast.ClassDef | ast.FunctionDef, decorator: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and aliases of each decorator that can be read."""
    for call in node.decorator_list:
        if not isinstance(call, ast.Call):
            continue
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        try:
            names = [ast.literal_eval(arg) for arg in call.args]
            options = {str(option.arg): ast.literal_eval(option.value) for option in call.keywords}
        except ValueError:
            continue
        if called == decorator and len(names) == 1 and isinstance(names[0], str):
            yield names[0], tuple(options.get("aliases", ()))


class _Classes:
    """The classes of a package by name, each as an empty class with the same bases and the attributes that are literals, so
    that Python itself resolves what is inherited. A name that two files give to different classes stands for neither."""

    def __init__(self) -> None:
        self._nodes: dict[str, ast.ClassDef | None] = {}
        self._shadows: dict[ast.ClassDef, type] = {}

    def add(self, node: ast.ClassDef) -> None:
        self._nodes[node.name] = None if node.name in self._nodes else node

    def attributes(self, node: ast.ClassDef) -> dict[str, Any]:
        """Attributes by name, inherited ones included; ``_UNREAD`` is the value of those that cannot be read."""
        found: dict[str, Any] = {}
        for cls in reversed(self._shadow(node).__mro__):
            found |= {key: value for key, value in vars(cls).items() if not key.startswith("__")}
        return found

    def _shadow(self, node: ast.ClassDef) -> type:
        if node not in self._shadows:
            bases = tuple(self._base(base) for base in node.bases if ast.unparse(base) not in _PLAIN)
            self._shadows[node] = type(node.name, bases, dict(self._own(node)))
        return self._shadows[node]

    def _base(self, base: ast.expr) -> type:
        known = self._nodes.get(base.id) if isinstance(base, ast.Name) else None
        return self._shadow(known) if known is not None else type("Elsewhere", (), dict.fromkeys(_METHOD, _UNREAD))

    def _own(self, node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
        for item in node.body:
            if isinstance(item, ast.Assign) and len(item.targets) == 1:
                target, value = item.targets[0], item.value
            elif isinstance(item, ast.AnnAssign) and item.value is not None:
                target, value = item.target, item.value
            else:
                continue
            if isinstance(target, ast.Name) and not target.id.startswith("__"):
                yield target.id, self._value(value)

    def _value(self, node: ast.expr) -> Any:
        """A literal, in which ``**Other.attribute`` stands for what another class declares."""
        if isinstance(node, ast.Dict):
            result: dict[Any, Any] = {}
            for key, value in zip(node.keys, node.values, strict=True):
                part = self._value(value) if key is None else {self._value(key): self._value(value)}
                if not isinstance(part, dict) or _UNREAD in (*part, *part.values()):
                    return _UNREAD
                result |= part
            return result
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "frozenset"
            and len(node.args) == 1
            and not node.keywords
        ):
            part = self._value(node.args[0])
            return frozenset(part) if isinstance(part, (set, list, tuple)) else _UNREAD
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = self._nodes.get(node.value.id)
            return _UNREAD if owner is None else self.attributes(owner).get(node.attr, _UNREAD)
        try:
            return ast.literal_eval(node)
        except ValueError:
            return _UNREAD
