"""A folder with configurations, a grid and a method of one's own, to be run as it is and changed from there."""

from __future__ import annotations

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


def new_project(folder: str | Path, *, data: str = "digits", teacher: str = "", student: str = "") -> list[Path]:
    """Write ``student.yaml``, ``teacher.yaml``, ``grid.yaml``, ``my_method.py`` and ``README.md``.

    Args:
        folder: is made; what is there stays.
        data: a data set's name, ``folder:<path>`` for folders of images by class.
        teacher, student: networks; empty = small ones for the data set.

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
    end = _SMALL.get(kind.lower(), "")
    default_teacher, default_student = (f"small_vit{end}", f"small_cnn{end}") if small else ("resnet34", "resnet18")
    names = {"TEACHER": teacher or default_teacher, "STUDENT": student or default_student}
    for name in names.values():
        find_entry(name)
    values = {
        **{key: _yaml(name) for key, name in names.items()},
        "DATA": _yaml(data),
        "FOLDER": Path(folder).name or ".",
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


def _yaml(text: str) -> str:
    """A text as a value in YAML."""
    return str(yaml.safe_dump(text, default_flow_style=True, width=10**6)).removesuffix("\n...\n").strip()
