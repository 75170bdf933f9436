"""Levels of loggers, changed for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_level(name: str, level: int) -> Iterator[None]:
    """The logger ``name`` at ``level`` inside, and as it was afterwards, whatever happens."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
