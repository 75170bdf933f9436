"""Data sets that are handed over as objects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from kdbench.data.source import DataSource, datasets
from kdbench.errors import DataError

_GIVEN: dict[str, DataSource] = {}


@contextmanager
def giving(source: DataSource) -> Iterator[tuple[str, dict[str, str]]]:
    """Keep a data set as long as the block runs; gives the ``DATASET.TYPE`` and ``OPTIONS`` that stand for it."""
    face = _face(source)
    mark = hashlib.sha256(f"{source.fingerprint()} {face}".encode()).hexdigest()[:12]
    _GIVEN[mark] = source
    try:
        yield f"given:{mark}", {"face": face}
    finally:
        _GIVEN.pop(mark, None)


def _face(source: DataSource) -> str:
    """Digest of what decides over a run besides the images and labels of its fingerprint, and is nobody's code."""
    mean, std = source.statistics
    val = "" if source.val is None else source.val.digest()
    facts = (tuple(map(float, mean)), tuple(map(float, std)), list(source.classes), source.standard, source.gate, val)
    return hashlib.sha256(repr((facts, source.image_size, source.test.image_size)).encode()).hexdigest()[:12]


def given(root: str, face: str = "") -> DataSource:
    """An object that was handed to ``kdbench.train(data=...)``, for as long as that works.

    Args:
        root: what follows ``given:``, a digest of it.
        face: a digest of its statistics, classes and usual augmentation, which makes them part of a run's name.

    Raises:
        DataError: no such object is there.
    """
    if root not in _GIVEN:
        raise DataError(
            f"data set 'given:{root}' was handed over as an object (data=...), which is not there now; hand it over again"
        )
    return _GIVEN[root]


datasets.add("given", given, hidden=True)
