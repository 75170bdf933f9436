"""From a configuration to a data set."""

from __future__ import annotations

import inspect

from yacs.config import CfgNode

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
    # The folder of 'folder:<path>' takes the place of DATASET.ROOT.
    kind, colon, path = node.TYPE.partition(":")
    if colon and kind.lower() == "folder":
        kind, root = "folder", path
    else:
        kind, root = node.TYPE, node.ROOT
    build = datasets.get(kind)
    known = inspect.signature(build).parameters
    for option in node.OPTIONS:
        if option not in known:
            raise DataError(
                f"DATASET.OPTIONS: data set {node.TYPE!r} has no option {option!r}{did_you_mean(option, known)}"
            )
    source = build(root, **dict(node.OPTIONS))
    if node.VAL_FRACTION > 0:
        source = source.hold_out(node.VAL_FRACTION)
    if node.PER_CLASS > 0:
        seed = cfg.EXPERIMENT.SEED if node.SUBSET_SEED < 0 else node.SUBSET_SEED
        source = source.few_shot(node.PER_CLASS, seed)
    return source


def list_datasets(pattern: str = "*") -> list[str]:
    """Registered data set names that fit a wildcard."""
    return datasets.names(pattern)
