"""The user's code behind a run, without torch where the user brought none."""

from __future__ import annotations

from yacs.config import CfgNode

from kdbench.plugins import anything_brought
from kdbench.registry import datasets, distillers, models


def brought_code(cfg: CfgNode, teacher: str | None = None) -> dict[str, str]:
    """Digests of what the user brought for a configuration, see :func:`kdbench.engine.identity.code.code_of`."""
    if not anything_brought() and all(registry.untouched for registry in (distillers, models, datasets)):
        return {}
    from kdbench.engine.identity.code import code_of

    return code_of(cfg, teacher).brought
