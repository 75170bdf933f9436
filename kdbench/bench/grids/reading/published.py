"""Known answers of a grid file: a pair's ``PUBLISHED`` and ``SOURCE``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdbench.bench.grids.grid import Published
from kdbench.bench.grids.reading.checks import as_mapping, check_texts
from kdbench.errors import ConfigError, did_you_mean


def read_published(
    path: str | Path, entry: Mapping[str, Any], pair: str, labels: Sequence[str]
) -> dict[tuple[str, str], Published]:
    """The published figures of a pair, by pair and label.

    Args:
        path: of the grid file, for messages.
        entry: of PAIRS.
        pair: its label.
        labels: of its methods.

    Raises:
        ConfigError: a label that the pair does not have, a figure that is no accuracy in percent, figures without a source.
    """
    figures = as_mapping(Path(path), "PAIRS.", entry, "PUBLISHED")
    check_texts(Path(path), "PAIRS.", entry, "SOURCE")
    source = str(entry.get("SOURCE", "")).strip()
    if bool(figures) != bool(source):
        raise ConfigError(f"{path}: {pair}: PUBLISHED and SOURCE, which says where it stands, come together")
    found = {}
    for label, value in figures.items():
        where = f"{path}: {pair}: PUBLISHED.{label}"
        if label not in labels:
            raise ConfigError(f"{where}: the pair has no such method{did_you_mean(str(label), labels)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 100:
            raise ConfigError(f"{where} expects top-1 in percent, got {value!r}")
        found[pair, str(label)] = Published(float(value), source)
    return found
