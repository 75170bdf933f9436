"""Names and declarations of the built-in methods and data sets, read from the source without importing it.

Importing torch takes seconds; ``kdbench list`` should not. What is listed is what stands in the files: class attributes that
are literals, and docstrings.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent


@dataclass
class Declared:
    """A registered class or function as its file declares it."""

    name: str
    summary: str
    attributes: dict[str, Any] = field(default_factory=dict)


def declared(package: str, decorator: str) -> list[Declared]:
    """What the files of ``kdbench/<package>`` register with ``@<decorator>("name")``, sorted by name."""
    classes: dict[str, ast.ClassDef] = {}
    found: list[tuple[str, ast.ClassDef | ast.FunctionDef]] = []
    for file in sorted((_ROOT / package).rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = node
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found += [(name, node) for name in _registered(node, decorator)]
    result = [
        Declared(name, _summary(node), _attributes(node, classes) if isinstance(node, ast.ClassDef) else {})
        for name, node in found
    ]
    return sorted(result, key=lambda entry: entry.name.lower())


def _registered(node: ast.ClassDef | ast.FunctionDef, decorator: str) -> list[str]:
    names = []
    for call in node.decorator_list:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == decorator:
            names += [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return names


def _summary(node: ast.ClassDef | ast.FunctionDef) -> str:
    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    return text


def _attributes(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name) and base.id in classes:
            values |= _attributes(classes[base.id], classes)
    for item in node.body:
        target = (
            item.targets[0]
            if isinstance(item, ast.Assign)
            else item.target
            if isinstance(item, ast.AnnAssign)
            else None
        )
        value = getattr(item, "value", None)
        if isinstance(target, ast.Name) and value is not None:
            try:
                values[target.id] = ast.literal_eval(value)
            except ValueError:
                values.pop(target.id, None)  # not a literal; `set()` counts as empty
                if isinstance(value, ast.Call):
                    values[target.id] = ()
    return values
