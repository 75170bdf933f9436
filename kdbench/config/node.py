"""The node of a configuration: yacs's, with a face for notebooks."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from kdbench.config.defaults import defaults
from kdbench.config.values import as_tuple


class Config(CfgNode):
    """A :class:`yacs.config.CfgNode` that notebooks show as a table: a section a node, what is not at its default in bold."""

    def _repr_html_(self) -> str:
        known = dict(_leaves(defaults()))
        sections: dict[str, list[tuple[str, Any]]] = {}
        for key, value in _leaves(self):
            sections.setdefault(key.partition(".")[0] if "." in key else "", []).append((key, value))
        parts = []
        for name, values in sections.items():
            rows, changed = [], 0
            for key, value in values:
                differs = key in known and known[key] != value
                changed += differs
                tag = "b" if differs else "span"
                cells = (
                    f"<{tag}>{html.escape(text)}</{tag}>" for text in (key.removeprefix(f"{name}."), _shown(value))
                )
                rows.append("<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>")
            head = f"{html.escape(name or 'keys')} ({len(values)}{f', {changed} changed' if changed else ''})"
            opened = " open" if changed or not name else ""
            parts.append(f"<details{opened}><summary>{head}</summary><table>{''.join(rows)}</table></details>")
        return "".join(parts)


def _leaves(node: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in node.items():
        found += (
            _leaves(value, f"{above}{key}.") if isinstance(value, Mapping) else [(f"{above}{key}", as_tuple(value))]
        )
    return found


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value) if isinstance(value, str) else str(value)
