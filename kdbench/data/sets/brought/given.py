"""Data sets that are handed over as objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kdbench.data.source import DataSource, datasets
from kdbench.errors import DataError

_GIVEN: dict[str, DataSource] = {}


@contextmanager
def giving(source: DataSource) -> Iterator[str]:
    """Keep a data set as long as the block runs; gives the ``DATASET.TYPE`` that stands for it."""
    mark = source.fingerprint()[:12]
    _GIVEN[mark] = source
    try:
        yield f"given:{mark}"
    finally:
        _GIVEN.pop(mark, None)


def given(root: str) -> DataSource:
    """An object that was handed to ``kdbench.train(data=...)``, for as long as that works.

    Args:
        root: what follows ``given:``, the beginning of its fingerprint.

    Raises:
        DataError: no such object is there.
    """
    if root not in _GIVEN:
        raise DataError(
            f"data set 'given:{root}' was handed over as an object (data=...), which is not there now; hand it over again"
        )
    return _GIVEN[root]


datasets.add("given", given, hidden=True)
