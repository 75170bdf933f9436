"""What a key that does not exist may have meant: the nearest name, or what other projects call the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdbench.errors import did_you_mean

#: Names for one thing, of which a node has one at most.
SYNONYMS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            ("T", "TEMPERATURE", "TEMP", "TAU", "KD_T"),
            ("LR", "LEARNING_RATE", "BASE_LR"),
            ("BATCH_SIZE", "BATCH", "BS"),
            ("EPOCHS", "NUM_EPOCHS", "MAX_EPOCHS", "EPOCH"),
            ("WEIGHT_DECAY", "WD"),
            ("WARMUP", "WARMUP_EPOCHS", "WARM_UP"),
            ("LR_DECAY_STAGES", "MILESTONES", "DECAY_EPOCHS"),
            ("LR_DECAY_RATE", "DECAY_RATE"),
            ("TYPE", "OPTIMIZER", "OPT"),
            ("SCHEDULE", "SCHEDULER"),
            ("STANDARDIZE", "LOGIT_STAND", "LOGIT_STANDARDIZATION"),
            ("CE_WEIGHT", "GT_WEIGHT", "CE_LOSS_WEIGHT", "GT_LOSS_WEIGHT"),
            ("KD_WEIGHT", "KD_LOSS_WEIGHT"),
            ("FEAT_WEIGHT", "FEATURE_WEIGHT"),
            ("NUM_WORKERS", "WORKERS"),
            ("WEIGHTS", "PRETRAINED", "CHECKPOINT", "CKPT"),
            ("NORM", "NORMALIZATION", "MEAN_STD"),
            ("SEED", "RANDOM_SEED"),
            ("ROOT", "DATA_DIR"),
            ("TASK_LOSS", "BCE_LOSS"),
            ("BCE_TARGET_THRESH", "BCE_THRESHOLD"),
            ("AUG_REPEATS", "NUM_AUG_REPEATS", "REPEATED_AUGMENTATION"),
        ),
    )
)


def suggestion(key: str, node: Mapping[str, Any]) -> str:
    """`` (did you mean 'x'?)`` for a dotted key whose first part ``node`` does not hold; empty where nothing is near.

    What is called otherwise goes before what merely looks alike; of a key of several parts, the first decides.
    """
    first, dot, _ = key.partition(".")
    near = did_you_mean(first, list(node))
    return (near or called_otherwise(key, node)) if dot else (called_otherwise(key, node) or near)


def called_otherwise(key: str, node: Mapping[str, Any]) -> str:
    """`` (did you mean 'x'?)`` with the dotted key below ``node`` that has the key's last part as name, or a synonym of it."""
    last = key.rpartition(".")[2].upper()
    names = next((group for group in SYNONYMS if last in group), frozenset()) | {last}
    found = sorted(
        (path for path in _leaves(node) if path.rpartition(".")[2] in names), key=lambda path: path.count(".")
    )
    return f" (did you mean {found[0]!r}?)" if found else ""


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
