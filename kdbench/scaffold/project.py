"""A folder with configurations, a grid and a method of one's own, to be run as it is and changed from there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import yaml

from kdbench.catalogue import dataset_rows
from kdbench.errors import ConfigError, did_you_mean, shown
from kdbench.models.names import find_entry
from kdbench.scaffold.files import template, write_new

#: what is trained where nothing else is named, by data set: small images get small networks
_SMALL = {
    "digits": "",
    "fake": "",
    "mnist": "28",
    "fashion_mnist": "28",
    "kmnist": "28",
}  # and the end of these networks' names
_TINY = ("resnet56", "resnet20")  # for folders of small images


def new_project(
    folder: str | Path, *, data: str = "digits", teacher: str = "", student: str = "", imports: Sequence[str] = ()
) -> list[Path]:
    """Write ``student.yaml``, ``teacher.yaml``, ``grid.yaml``, ``my_method.py`` and ``README.md``.

    Args:
        folder: is made; what is there stays.
        data: a data set's name, ``folder:<path>`` for folders of images by class.
        teacher: a network; empty = one that fits the data set.
        student: likewise.
        imports: modules and files of one's own that the configurations import.

    Returns:
        The files.

    Raises:
        ConfigError: no such data set, or a file is there already.
        UnknownNameError: no such network.
    """
    kind, _, place = data.partition(":")
    known = {str(row["name"]).partition(":")[0].lower() for row in dataset_rows()}
    if kind.lower() not in known or (kind.lower() == "folder" and not place):
        raise ConfigError(
            f"--data {shown(data)} is no data set{did_you_mean(kind, known)}; there are {', '.join(sorted(known))} "
            "(folder:<path> for folders of images by class)"
        )
    if kind.lower() == "folder":
        data = f"folder:{Path(place).expanduser().absolute()}"
    small = kind.lower() in _SMALL
    side = 224 if kind.lower() != "folder" else _side(Path(data.partition(":")[2]))
    end = _SMALL.get(kind.lower(), "")
    fitting = (f"small_vit{end}", f"small_cnn{end}") if small else ("resnet34", "resnet18") if side > 64 else _TINY
    default_teacher, default_student = fitting
    names = {"TEACHER": teacher or default_teacher, "STUDENT": student or default_student}
    for name in names.values():
        find_entry(name)
    values = {
        **{key: _yaml(name) for key, name in names.items()},
        "DATA": _yaml(data),
        "FOLDER": Path(folder).name or ".",
        "SIZE": str(side),
        "CROP": "rrc             # random resized crops"
        if side > 64
        else f"pad\n  PAD: {max(1, side // 8)}\n  CROP_PCT: 1.0  # evaluation: all of an image",
        "IMPORTS": _imports(imports, Path(folder)),
    }
    size = "small" if small else "large"
    return write_new(
        Path(folder),
        {
            "student.yaml": template(f"student_{size}.yaml", values),
            "teacher.yaml": template(f"teacher_{size}.yaml", values),
            "grid.yaml": template("grid.yaml", values),
            "my_method.py": template("my_method.py.txt", {}),
            "README.md": template("project.md", values),
        },
    )


def _imports(imports: Sequence[str], folder: Path) -> str:
    """The line that imports one's own modules, relative to the folder; empty without any."""
    places = [
        os.path.relpath(name, folder) if name.endswith(".py") and not os.path.isabs(name) else name for name in imports
    ]
    return f"IMPORTS: [{', '.join(map(_yaml, places))}]\n" if places else ""


def _side(folder: Path) -> int:
    """Side of the images of a folder, by the first one; 224 where that is larger than 64 pixels, or cannot be looked at."""
    from PIL import Image

    for path in islice(folder.glob("*/*/*"), 1000):
        try:
            with Image.open(path) as image:
                return min(image.size) if min(image.size) <= 64 else 224
        except OSError:
            continue
    return 224


def _yaml(text: str) -> str:
    """A text as a value in YAML."""
    return str(yaml.safe_dump(text, default_flow_style=True, width=10**6)).removesuffix("\n...\n").strip()
