"""Keys of a grid that act on none of its runs, by where they stand."""

from __future__ import annotations

import logging
from collections import Counter

from kdbench.config.load import Setting

log = logging.getLogger(__name__)


class IdleKeys:
    """What :func:`kdbench.config.load.build_config` says of the keys of a grid's runs, one after the other."""

    def __init__(self) -> None:
        self.given: Counter[tuple[str, str]] = Counter()
        self.noted: Counter[tuple[str, str]] = Counter()
        self.reasons: dict[tuple[str, str], str] = {}

    def count(self, settings: list[Setting]) -> list[Setting]:
        """Note a run's settings; returns them."""
        self.given.update({(s.source, s.key) for s in settings if s.own})
        return settings

    def note(self, setting: Setting, why: str, minor: bool) -> None:
        """Note a key that acts on nothing in a run."""
        place = (setting.source, setting.key)
        self.noted[place] += 1
        self.reasons[place] = why

    def report(self) -> None:
        """Name the keys that act on no run in which they are given."""
        for place, why in self.reasons.items():
            if self.noted[place] == self.given[place]:
                log.warning("%s: %s has no effect on any run of the grid: %s", *place, why)
