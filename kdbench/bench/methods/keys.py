"""The reference of a configuration's keys, from the tree of defaults, its comments, and what methods declare."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

from tabulate import tabulate

from kdbench.catalogue import methods
from kdbench.config import defaults as source
from kdbench.config.defaults import DOMAINS, IGNORED, NOT_IDENTITY, defaults
from kdbench.config.effects import EFFECTIVE
from kdbench.distillers.base import distillers
from kdbench.domains import show
from kdbench.escape import markdown

_HEAD = """# Keys of a configuration

`python tools/reference.py` writes this page from `kdbench/config/defaults.py` and what the methods declare.
[Configuration](configuration.md) explains the keys that you meet first. Keys marked with * do not change a result and are
no part of a run's name.
"""


def key_reference() -> str:
    """The page as Markdown."""
    told = _comments()
    parts = [_HEAD]
    for section, node in defaults().items():
        rows = []
        for key, value in _leaves(node, f"{section}."):
            free = any(key == other or key.startswith(f"{other}.") for other in NOT_IDENTITY)
            domain = DOMAINS.get(key)
            words = told.get(key.replace("STUDENT.", "TEACHER.", 1), told.get(key, ""))
            words = f"of mdistiller; {IGNORED[key]}" if key in IGNORED else words
            name = f"`{key}`{' *' if free else ''}"
            rows.append(
                [
                    name,
                    f"`{_plain(value)!r}`",
                    "" if domain is None else markdown(show(domain)),
                    markdown(words + _needs(key)),
                ]
            )
        parts += [
            f"## {section}",
            tabulate(rows, ["key", "default", "may be", "meaning"], tablefmt="pipe", disable_numparse=True),
        ]
    parts += ["## Hyperparameters of methods", _of_methods()]
    return "\n\n".join(parts) + "\n"


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> Any:
    """As YAML writes it: a tuple is a list."""
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value


def _needs(key: str) -> str:
    """Which other keys must be set for a key to act."""
    ways = [", ".join(EFFECTIVE[key][n]) for n in range(len(EFFECTIVE.get(key, ())))]
    return f" (acts with {' or '.join(ways)})" if ways else ""


def _comments() -> dict[str, str]:
    """Comments beside and above the keys of the tree, by dotted key; of both networks under TEACHER."""
    text = inspect.getsource(source)
    lines: dict[int, str] = {}
    alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            at_start = not token.line[: token.start[1]].strip()
            (alone if at_start else lines)[token.start[0]] = token.string.lstrip("# ").strip()
    found: dict[str, str] = {}
    functions = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}

    def visit(node: ast.Dict, prefix: str) -> None:
        for key, value in zip(node.keys, node.values):
            if not isinstance(key, ast.Constant):
                continue  # the keys of a network, which are found by themselves
            name = prefix + str(key.value)
            if isinstance(value, ast.Dict) and value.keys:
                visit(value, f"{name}.")
            words, above = lines.get(value.end_lineno or 0, ""), key.lineno - 1
            while above in alone:
                words, above = f"{alone[above]} {words}".strip(), above - 1
            if words and not (isinstance(value, ast.Dict) and value.keys):
                found[name] = words

    for name, prefix in (("_network", "TEACHER."), ("defaults", "")):
        made = next(node.value for node in ast.walk(functions[name]) if isinstance(node, ast.Return))
        assert isinstance(made, ast.Dict)
        visit(made, prefix)
    return found


def _of_methods() -> str:
    distillers.load()
    own = {name for name in distillers.names() if distillers.get(name).__module__.startswith("kdbench.")}
    known = methods()
    rows = []
    for name in known.names():
        method = known.get(name)
        if name not in own:  # a plug-in's
            continue
        for key, value in _leaves(method.defaults, ""):
            domain = method.domains.get(key)
            rows.append(
                [f"`{name.upper()}.{key}`", f"`{_plain(value)!r}`", "" if domain is None else markdown(show(domain))]
            )
    cards = "A method's card in [methods](methods/README.md) says what they mean.\n\n"
    return cards + tabulate(rows, ["key", "default", "may be"], tablefmt="pipe", disable_numparse=True)
