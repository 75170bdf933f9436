"""What a run was made from, as ``inputs.json`` in its folder: what has changed since is said, and other images are refused."""

from __future__ import annotations

import functools
import importlib.util
import logging
from pathlib import Path
from typing import Any

from kdbench.data.source import DataSource
from kdbench.engine.identity.code import Code
from kdbench.engine.identity.images import contents, touched
from kdbench.engine.run_folder import RunFolder
from kdbench.errors import DataError
from kdbench.files import stored
from kdbench.plugins import import_plugins, imported, source_digest_of
from kdbench.records import is_text, list_of, mapping_of, read_record, set_aside, write_record

log = logging.getLogger(__name__)
#: facts of an environment that may change a result
DECIDES = ("kdbench", "torch", "torchvision", "timm", "device", "gpu", "world_size", "deterministic", "compile")
_DIGESTS = mapping_of(is_text)
_KINDS = {
    "plain": is_text,
    "brought": _DIGESTS,
    "own": _DIGESTS,
    "touched": is_text,
    "images": lambda value: isinstance(value, dict) and all(map(_DIGESTS, value.values())),
    "environments": lambda value: bool(value) and list_of(lambda one: isinstance(one, dict))(value),
}


class Inputs:
    """The inputs of a run as they are now.

    Args:
        data: data set.
        code: what defines the run, see :func:`kdbench.engine.identity.code.code_of`.
        plain: the run's identity without the code that the user brought.
        environment: see :func:`kdbench.engine.runtime.environment`.
        store: folder in which digests of images are remembered.
    """

    def __init__(self, data: DataSource, code: Code, plain: str, environment: dict[str, Any], store: Path) -> None:
        self.data, self.code, self.plain, self.store = data, code, plain, store
        self.environment = environment

    @functools.cached_property
    def touched(self) -> str:
        """See :func:`kdbench.engine.identity.images.touched`."""
        return touched(self.data)

    def check(self, folder: RunFolder) -> None:
        """Compare with what a run that is there was made from, and say what has changed.

        Raises:
            DataError: its images were replaced by others.
        """
        before = read_inputs(folder)
        if before is None:
            return
        self._check_images(before, folder)
        changed = [name for name, digest in self.code.own.items() if before["own"].get(name, digest) != digest]
        if changed:
            log.warning(
                "%s was made with another version of %s; delete the folder to make it anew",
                folder.path,
                ", ".join(changed),
            )
        then = before["environments"][-1]
        told = [
            f"{key} {then[key]} (now {self.environment[key]})"
            for key in DECIDES
            if key in then and then[key] != self.environment.get(key)
        ]
        if told:
            log.warning("%s was made with %s", folder.path.name, ", ".join(told))

    def predecessor(self, folder: RunFolder) -> str:
        """Of a run that is not there yet: the name of one that differs from it in the user's code alone; empty without one."""
        stem = folder.path.name.rpartition("-")[0]
        for place in sorted(folder.path.parent.glob(f"{stem}-*")):
            before = read_inputs(RunFolder(place), foreign=True)
            if before is not None and before["plain"] == self.plain and before["brought"] != self.code.brought:
                names = sorted(set(before["brought"]) | set(self.code.brought))
                changed = [n for n in names if before["brought"].get(n) != self.code.brought.get(n)]
                return f"{', '.join(changed)} changed since {place.name} was made"
        return ""

    def record(self, folder: RunFolder) -> None:
        """Write ``inputs.json``; of a run that goes on the environments before are kept.

        Raises:
            StorageError: it cannot be written.
        """
        before = read_inputs(folder) if folder.checkpoint.is_file() else None
        environments = [] if before is None else list(before["environments"])
        if not environments or environments[-1] != self.environment:
            environments.append(self.environment)
        values = {
            "plain": self.plain,
            "brought": self.code.brought,
            "own": self.code.own,
            "touched": self.touched,
            "images": contents(self.data, self.touched, self.store) if self.touched else {},
            "environments": environments,
            "imports": list(imported()) if self.code.brought else [],
        }
        with stored(folder.inputs):
            write_record(folder.inputs, values, indent=1)

    def _check_images(self, before: dict[str, Any], folder: RunFolder) -> None:
        if before["touched"] == self.touched:
            return
        now = contents(self.data, self.touched, self.store)
        if before["images"].get("all") == now["all"]:
            log.info("the image files were touched since %s was made; their content is the same", folder.path.name)
            return
        some = before["images"].get("some", {})
        other = next((name for name, digest in some.items() if now["some"].get(name, digest) != digest), "")
        raise DataError(
            f"{other or 'an image'} is another one than when {folder.path} was made, though of the same size: delete that "
            "folder, or give EXPERIMENT.NAME, to train on the images that are there now"
        )


def read_inputs(folder: RunFolder, *, foreign: bool = False) -> dict[str, Any] | None:
    """``inputs.json`` of a run, or None where there is none that can be used. A damaged one is set aside, in a warning.

    Args:
        folder: of the run.
        foreign: of another run than the one that is asked for: a damaged file is left to that one.
    """
    try:
        return read_record(folder.inputs, _KINDS, {"imports": list_of(is_text)})
    except OSError:
        return None
    except ValueError as error:
        if not foreign:
            set_aside(folder.inputs, error, "what the run was made from before is not compared with what there is now")
        return None


def environments_of(folder: RunFolder, now: dict[str, Any]) -> dict[str, Any]:
    """The environment for a run's record: where a run went on in another one, both values (``"2.4.0 then 2.14.1"``)."""
    before = read_inputs(folder)
    every = [*(before["environments"] if before is not None else []), now]
    merged: dict[str, Any] = {}
    for key in now:
        values = list(dict.fromkeys(str(e[key]) for e in every if key in e))
        merged[key] = now[key] if len(values) < 2 else " then ".join(values)
    return merged


def import_again(folder: RunFolder) -> None:
    """Import what a run imported, as far as that is the source that it recorded; of the rest a warning says so. A file below the
    run's own folder is never taken: a folder that was handed on brings no code along.

    Raises:
        KdbenchError: something cannot be imported.
    """
    before = read_inputs(folder, foreign=True)
    names = [] if before is None else [name for name in before.get("imports", []) if name not in imported()]
    digests = set() if before is None else set(before["brought"].values())
    for name in names:
        file = _file_of(name)
        inside = file is not None and folder.path.resolve() in file.resolve().parents
        if file is None or inside or source_digest_of(str(file)) not in digests:
            log.warning("%s is not imported: it is not what %s was made with; --import does it", name, folder.path.name)
            continue
        log.info("importing %s, as %s did", name, folder.path.name)
        import_plugins([name])


def _file_of(name: str) -> Path | None:
    """The source of a module, found without running anything; None where that is not possible."""
    if name.endswith(".py"):
        return Path(name) if Path(name).is_file() else None
    spec = None if "." in name else importlib.util.find_spec(name)
    return Path(spec.origin) if spec is not None and spec.origin else None
