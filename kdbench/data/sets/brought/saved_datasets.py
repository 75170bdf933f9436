"""A folder of Hugging Face's ``datasets``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdbench.data.sets.brought.items import data_from_datasets
from kdbench.data.source import DataSource, register_dataset
from kdbench.errors import DataError, did_you_mean

_HELD_OUT = ("test", "validation", "val", "valid")


@register_dataset("hf")
def saved(
    root: str,
    image: str = "",
    label: str = "",
    image_size: int = 0,
    test_fraction: float = 0.2,
    memory_gb: float = 2.0,
) -> DataSource:
    """A folder that ``save_to_disk`` of Hugging Face's ``datasets`` wrote: ``DATASET.TYPE: hf:<folder>``.

    Args:
        root: the folder; of a single data set, or of one with the splits train and test (or validation).
        image: name of the column of images; the only one of that kind by default.
        label: name of the column of classes; the only one of that kind by default.
        image_size: side of images that do not stay in memory; 0 = 224.
        test_fraction: of each class, held out where there is no split but train.
        memory_gb: what images may take in memory.

    Raises:
        DataError: ``datasets`` is not installed, the folder is none of its own, or has no such columns or splits.
    """
    try:
        import datasets
    except ImportError:
        raise DataError("DATASET.TYPE: hf:<folder> needs the package datasets: pip install datasets") from None
    if not Path(root).is_dir():
        raise DataError(f"{root}: no such folder; DATASET.TYPE: hf:<folder> names one that save_to_disk wrote")
    try:
        found = datasets.load_from_disk(root)
    except Exception as error:  # noqa: BLE001 - whatever it raises at a folder that is not its own
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{root}: datasets cannot load it from disk ({reason})") from None
    parts = dict(found) if isinstance(found, dict) else {"train": found}
    if "train" not in parts:
        raise DataError(f"{root}: has the splits {', '.join(parts)}, and no train{did_you_mean('train', parts)}")
    held_out = [name for name in _HELD_OUT if name in parts]
    columns = _columns(parts["train"], image, label, root)
    items = {name: _Columns(parts[name], *columns) for name in ("train", *held_out[:2])}
    return data_from_datasets(
        items["train"],
        items[held_out[0]] if held_out else None,
        val=items[held_out[1]] if len(held_out) > 1 else None,
        classes=getattr(parts["train"].features[columns[1]], "names", None),
        image_size=image_size,
        memory_gb=memory_gb,
        test_fraction=test_fraction,
        name="hf",
    )


class _Columns:
    """Two columns of a data set as pairs."""

    def __init__(self, rows: Any, image: str, label: str) -> None:
        self.rows, self.image, self.label = rows, image, label

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[Any, Any]:
        row = self.rows[position]
        return row[self.image], row[self.label]


def _columns(rows: Any, image: str, label: str, root: str) -> tuple[str, str]:
    features = rows.features
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    chosen = []
    for key, named, kind in (("image", image, "Image"), ("label", label, "ClassLabel")):
        fits: Sequence[str] = [named] if named else [name for name, found in kinds.items() if found == kind]
        if len(fits) != 1 or fits[0] not in features:
            there = ", ".join(f"{name} ({found})" for name, found in kinds.items())
            raise DataError(
                f"{root}: DATASET.OPTIONS.{key} names the column of the {key}s{did_you_mean(named, features)}; it has {there}"
            )
        chosen.append(fits[0])
    return chosen[0], chosen[1]
