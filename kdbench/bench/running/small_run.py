"""A run of a few steps on random data, with the networks and the recipe of a real one; nothing of it is kept."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

from yacs.config import CfgNode

from kdbench.catalogue import SIZES
from kdbench.engine.run import train
from kdbench.logs import at_level


def small_config(cfg: CfgNode, *, batch: int, steps: int, epochs: int = 1) -> CfgNode:
    """A configuration with random data in the place of its own, ``steps`` steps an epoch and fresh weights."""
    cfg = cfg.clone()
    cfg.defrost()
    kind = cfg.DATASET.TYPE.casefold()
    if kind == "fake":
        classes, side = (cfg.DATASET.OPTIONS.get(key, default) for key, default in (("num_classes", 10), ("size", 32)))
    else:
        classes, side, _ = SIZES.get(kind, (100, cfg.DATASET.IMAGE_SIZE or 224, 0))
    cfg.DATASET.TYPE, cfg.DATASET.NUM_WORKERS = "fake", 0
    cfg.DATASET.OPTIONS = CfgNode({"num_classes": classes, "size": side, "train": batch * steps, "test": 2})
    cfg.DATASET.REPEAT, cfg.DATASET.AUG_REPEATS, cfg.DATASET.PER_CLASS = 1, 0, 0
    cfg.DATASET.VAL_FRACTION, cfg.DATASET.TEST.BATCH_SIZE = 0.0, 2
    # the linear rule and clipped gradients: at the rate of a batch of 512 two images make a network diverge
    cfg.SOLVER.CLIP_GRAD = cfg.SOLVER.CLIP_GRAD or 1.0
    rate = min(1.0, batch / cfg.SOLVER.BATCH_SIZE)
    for key in ("LR", "MIN_LR", "WARMUP_LR"):
        cfg.SOLVER[key] *= rate
    cfg.SOLVER.BATCH_SIZE, cfg.SOLVER.EPOCHS, cfg.SOLVER.EVAL_EVERY = batch, epochs, epochs
    for node in (node for node in cfg.values() if isinstance(node, CfgNode) and node.get("INIT_EPOCHS")):
        node.INIT_EPOCHS = 1
    cfg.SOLVER.PATIENCE, cfg.SOLVER.KEEP = 0, "last"  # there is no validation part
    cfg.TEACHER.WEIGHTS = cfg.STUDENT.WEIGHTS = ""
    cfg.DISTILLER.TEACHERS = tuple({**entry, "WEIGHTS": ""} for entry in cfg.DISTILLER.TEACHERS)
    cfg.EXPERIMENT.TAG, cfg.EXPERIMENT.NAME, cfg.CACHE.ENABLED = "smoke", "smoke", False
    cfg.LOG.TRACKERS, cfg.LOG.TENSORBOARD = (), False  # it is thrown away
    cfg.freeze()
    return cfg


@contextlib.contextmanager
def trained_small(cfg: CfgNode) -> Iterator[Path]:
    """The folder of a run of this configuration, which is thrown away afterwards."""
    level = max(logging.getLogger("kdbench").level, logging.WARNING)  # accuracies on random data would mislead
    with tempfile.TemporaryDirectory(prefix="kdbench-smoke-") as folder:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.LOG.PREFIX = folder
        cfg.freeze()
        with at_level("kdbench", level):
            result = train(cfg)
        yield Path(result.folder)
