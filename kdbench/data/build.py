"""From a configuration to a data set."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from yacs.config import CfgNode

from kdbench.config.defaults import PLACED
from kdbench.data.source import DataSource, datasets
from kdbench.errors import DataError, did_you_mean


def build_data(cfg: CfgNode) -> DataSource:
    """The data set of ``cfg.DATASET``, with its validation part cut off and its few-shot subset taken.

    Raises:
        UnknownNameError: no such data set.
        DataError: it is missing or damaged, or an option does not exist.
        ConfigError: the validation part would be empty.
    """
    node = cfg.DATASET
    build, root = builder_of(node.TYPE, node.ROOT)
    known = inspect.signature(build).parameters
    for option in node.OPTIONS:
        if option == "root":
            raise DataError("DATASET.OPTIONS.root: name the folder by DATASET.ROOT, or by DATASET.TYPE folder:<path>")
        if option not in known:
            raise DataError(
                f"DATASET.OPTIONS: data set {node.TYPE!r} has no option {option!r}{did_you_mean(option, known)}"
            )
    source = build(root, **dict(node.OPTIONS))
    if not isinstance(source, DataSource):
        raise DataError(
            f"data set {node.TYPE!r}: its builder returns a kdbench DataSource, got {type(source).__name__}"
        )
    if node.VAL_FRACTION > 0:
        source = source.hold_out(node.VAL_FRACTION)
    if node.PER_CLASS > 0:
        seed = cfg.EXPERIMENT.SEED if node.SUBSET_SEED < 0 else node.SUBSET_SEED
        source = source.few_shot(node.PER_CLASS, seed)
    return source


def builder_of(kind: str, root: str = "") -> tuple[Callable[..., DataSource], str]:
    """What builds ``DATASET.TYPE: <kind>``, and from where: the path of ``folder:<path>`` takes the place of ``DATASET.ROOT``.

    Raises:
        UnknownNameError: no such data set.
    """
    word, colon, path = kind.partition(":")
    if colon and word.lower() in (*PLACED, "given"):
        return datasets.get(word), path
    return datasets.get(kind), root


def list_datasets(pattern: str = "*") -> list[str]:
    """Registered data set names that fit a wildcard."""
    return datasets.names(pattern)
