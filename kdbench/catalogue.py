"""What there is, without torch: methods, networks and data sets, as ``catalogue.json`` has them.

``python tools/catalogue.py`` writes the file from the registries. It holds a digest of the sources that it describes; where that no
longer fits, where an installed package brings more, or where something was registered in this process, the registries
themselves are asked, so that a stale catalogue is never believed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kdbench.domains import Domain
from kdbench.errors import KdbenchError
from kdbench.plugins import entry_points
from kdbench.registry import Registry, datasets, distillers, models

FILE = Path(__file__).with_name("catalogue.json")
#: registry -> folder of the sources that its part of the catalogue describes
SOURCES = {"methods": "distillers", "models": "models", "datasets": "data/sets"}
_REGISTRIES: dict[str, Registry[Any]] = {"methods": distillers, "models": models, "datasets": datasets}
#: what methods compare, in the order in which they are listed
COMPARED = ("labels", "logits", "features", "relations")
#: classes, side and training images of data sets that come with kdbench
SIZES: dict[str, tuple[int, int, int]] = {
    "cifar10": (10, 32, 50_000),
    "cifar100": (100, 32, 50_000),
    "imagenet": (1000, 224, 1_281_167),
    "tiny_imagenet": (200, 64, 100_000),
    "cub200": (200, 224, 5_994),
    "aircraft": (100, 224, 6_667),
    "digits": (10, 8, 1_297),
    "mnist": (10, 28, 60_000),
    "fashion_mnist": (10, 28, 60_000),
    "kmnist": (10, 28, 60_000),
}


@dataclass(frozen=True)
class Method:
    """What a method declares; its class, a :class:`kdbench.Distiller`, has the same attributes (``summary`` is the first paragraph
    of its docstring)."""

    name: str
    aliases: tuple[str, ...]
    summary: str
    reference: str
    verified: str
    kind: str
    uses_teacher: bool
    several_teachers: bool
    teacher_needs: frozenset[str]
    student_needs: frozenset[str]
    looks: tuple[str, ...]
    min_batch: int
    min_classes: int
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]]
    domains: dict[str, Domain]
    effective: dict[str, dict[str, Any] | str]
    added: tuple[str, ...]

    @property
    def year(self) -> str:
        """Of its paper, or else of its number at arXiv; empty where the reference names neither."""
        found = re.findall(r"\b(?:19|20)\d\d\b(?!\.\d)", self.reference)
        number = re.search(r"\barXiv[: ](\d\d)\d\d\.\d", self.reference)
        return found[-1] if found else f"20{number[1]}" if number else ""

    @property
    def compares(self) -> str:
        """What it compares: ``labels`` (no teacher), ``logits``, ``features`` or ``relations``."""
        if not self.uses_teacher:
            return "labels"
        return self.kind or ("features" if self.teacher_needs - {"logits", "region_logits"} else "logits")


def methods() -> Registry[Method]:
    """Every method by name and alias."""
    if _believed("methods"):
        return _stored_methods()
    distillers.load()
    return _live_methods(distillers.version)


def model_rows() -> list[dict[str, Any]]:
    """A row per registered network: see :func:`kdbench.models.describe.describe`."""
    if _believed("models"):
        return [
            {key: value for key, value in row.items() if key not in ("aliases", "large")} for row in _read()["models"]
        ]
    rows: list[dict[str, Any]] = importlib.import_module("kdbench.models.describe").describe_all()
    return rows


def aliases_of(part: str, name: str) -> list[str]:
    """Further names of a registered method or network, which lists do not show.

    Args:
        part: ``methods`` or ``models``.
        name: registered.
    """
    if part == "methods":
        return methods().aliases(name)
    return list(_stored_models()[0][name.lower()]["aliases"]) if _believed(part) else models.aliases(name)


def known_model(name: str, side: int = 0) -> tuple[str, str] | None:
    """Name and tag of the entry that :func:`kdbench.models.names.find_entry` finds, without importing networks.

    Args:
        name: a registered name or alias, whatever the case of its letters.
        side: of the image, in pixels; 0 = unknown.

    Returns:
        None for a name that the catalogue does not know: one with a prefix, of a plug-in, or of nothing.
    """
    if not _believed("models"):
        return None
    by_name, large_image = _stored_models()
    row = by_name.get(name.lower())
    if row is not None and row["large"] and side >= large_image:
        row = by_name[row["large"].lower()]
    return None if row is None else (row["name"], row["tag"])


def family_of(name: str) -> str:
    """Family of a network (``cnn``, ``vit``, ``mlp``, ``hybrid``); empty for one that nothing here knows.

    Args:
        name: as in a configuration.
    """
    if _fits("models"):
        row = _stored_models()[0].get(name.lower()) or _tagged_models().get(name)
        if row is not None:
            return str(row["family"])
    try:
        return str(importlib.import_module("kdbench.models.names").find_entry(name).family)
    except KdbenchError:
        return ""


def is_known_tag(name: str) -> bool:
    """Whether ``timm:<name>.<tag>`` (or ``torchvision:...``) is what a registered network stands for, and so exists."""
    project, colon, rest = name.partition(":")
    return bool(colon) and _believed("models") and f"{project} {rest}" in {row["tag"] for row in _read()["models"]}


def dataset_rows() -> list[dict[str, str]]:
    """Name and summary of every data set."""
    if _believed("datasets"):
        rows: list[dict[str, str]] = _read()["datasets"]
        return rows
    return [{"name": name, "about": summary_of(datasets.get(name))} for name in datasets.names()]


def image_side(node: Mapping[str, Any]) -> int:
    """Side of the images that a ``DATASET`` node gives; 0 where it is not known."""
    if node["IMAGE_SIZE"]:
        return int(node["IMAGE_SIZE"])
    kind = str(node["TYPE"]).casefold()
    if kind == "fake":
        return int(dict(node["OPTIONS"] or {}).get("size", 32))
    return SIZES[kind][1] if kind in SIZES else 0


def summary_of(thing: Any) -> str:
    """First paragraph of a docstring, in one line."""
    return " ".join((thing.__doc__ or "").split("\n\n")[0].split())


def digest(part: str) -> str:
    """Digest of the sources behind one part of the catalogue: of their paths and contents."""
    root = Path(__file__).parent / SOURCES[part]
    found = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        found.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def catalogue() -> dict[str, Any]:
    """The catalogue as the registries have it now: what ``catalogue.json`` should hold."""
    for registry in _REGISTRIES.values():
        registry.load()
    return {
        "digests": {part: digest(part) for part in SOURCES},
        "methods": [_plain(asdict(_declared(name))) for name in distillers.names()],
        "datasets": [{"name": name, "about": summary_of(datasets.get(name))} for name in datasets.names()],
        "large_image": importlib.import_module("kdbench.models.networks.paper_names").LARGE_IMAGE,
        "models": [
            {**row, "aliases": models.aliases(row["name"]), "large": models.get(row["name"]).large}
            for row in importlib.import_module("kdbench.models.describe").describe_all(strict=True)
        ],
    }


def _believed(part: str) -> bool:
    """Whether the file may answer for a registry: nothing else brings entries, and its sources are those that it describes."""
    registry = _REGISTRIES[part]
    return registry.untouched and not _brought(registry.group) and _fits(part)


@functools.cache
def _brought(group: str) -> bool:
    return bool(entry_points(group))


@functools.cache
def _fits(part: str) -> bool:
    return bool(_read()) and _read()["digests"].get(part) == digest(part)


@functools.cache
def _read() -> dict[str, Any]:
    """The file; nothing where it cannot be read."""
    try:
        values: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if {"digests", "methods", "models", "datasets", "large_image"} <= values.keys() else {}


@functools.cache
def _stored_methods() -> Registry[Method]:
    return _registered([Method(**_kinds(row)) for row in _read()["methods"]])


@functools.lru_cache(maxsize=1)
def _live_methods(version: int) -> Registry[Method]:
    return _registered([_declared(name) for name in distillers.names()])


@functools.cache
def _stored_models() -> tuple[dict[str, dict[str, Any]], int]:
    rows = {name.lower(): row for row in _read()["models"] for name in (row["name"], *row["aliases"])}
    return rows, int(_read()["large_image"])


@functools.cache
def _tagged_models() -> dict[str, dict[str, Any]]:
    """By ``project:architecture``, of those that have published weights."""
    return {":".join(row["tag"].split(".")[0].split()): row for row in _read()["models"] if row["tag"]}


def _registered(found: list[Method]) -> Registry[Method]:
    registry: Registry[Method] = Registry(distillers.kind, hint=distillers.hint)
    for method in found:
        registry.add(method.name, method)
        for alias in method.aliases:
            registry.add(alias, method, hidden=True)
    return registry


def _declared(name: str) -> Method:
    cls = distillers.get(name)
    values = {f.name: getattr(cls, f.name) for f in fields(Method) if f.name not in ("name", "aliases", "summary")}
    return Method(name=name, aliases=tuple(distillers.aliases(name)), summary=summary_of(cls), **values)


def _plain(value: Any) -> Any:
    """As JSON takes it: sets are sorted."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _kinds(row: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`_plain` for a method: lists are tuples, but for the needs."""
    values = {key: _tuples(value) for key, value in row.items()}
    return {
        **values,
        "teacher_needs": frozenset(row["teacher_needs"]),
        "student_needs": frozenset(row["student_needs"]),
    }


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
