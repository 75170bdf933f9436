"""A method, its test and its card, to be filled in."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from kdbench.catalogue import methods
from kdbench.errors import ConfigError, shown
from kdbench.scaffold.files import template, write_new


def new_method(name: str, folder: str | Path = ".") -> list[Path]:
    """Write ``<name>.py``, ``test_<name>.py`` and ``<name>.md`` (in lower case): a method that runs as it is.

    Args:
        name: of the method, as configurations name it.
        folder: where to.

    Raises:
        ConfigError: it is no name, a method has it, or a file is there already.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name) or keyword.iskeyword(name.lower()):
        raise ConfigError(
            f"{shown(name)} is no name of a method; expects letters, digits and _, beginning with a letter"
        )
    taken = next((known for known in methods().names() if known.lower() == name.lower()), "")
    if taken:
        raise ConfigError(f"there is a method {taken} already; give yours another name")
    stem = name.lower()
    parts = [part for part in re.split(r"_+", name) if part]
    made = "".join(part[:1].upper() + (part[1:] if not part.isupper() else part[1:].lower()) for part in parts)
    values = {"NAME": name, "STEM": stem, "CLASS": made}
    return write_new(
        Path(folder),
        {
            f"{stem}.py": template("method.py.txt", values),
            f"test_{stem}.py": template("test_method.py.txt", values),
            f"{stem}.md": template("method.md", values),
        },
    )
