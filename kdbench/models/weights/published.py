"""Published weights by name: what tells one release of them from another, without fetching or building anything."""

from __future__ import annotations

from types import ModuleType

from kdbench.models.names import find_entry
from kdbench.models.registry import ModelEntry


def published_release(name: str, side: int = 0) -> str:
    """The full tag behind ``WEIGHTS: pretrained`` of a model, where it is fetched from, and the version of the library that says
    so: other weights under the same name have another release.

    Args:
        name: as of :func:`kdbench.create_model`.
        side: of the images, where a name means two networks.

    Raises:
        UnknownNameError: no such model.
    """
    entry = find_entry(name, side)
    project, _, tag = entry.tag.partition(" ")
    known = {"timm": _timm, "torchvision": _torchvision}.get(project)
    return known(entry, tag) if known is not None else " ".join(("pretrained", entry.name, entry.tag)).strip()


def _timm(entry: ModelEntry, tag: str) -> str:
    import timm

    config = timm.models.get_pretrained_cfg(tag)
    if config is None:
        return f"timm {_version(timm)} {tag}"
    full = f"{tag.partition('.')[0]}.{config.tag}" if config.tag else tag
    return " ".join(("timm", _version(timm), full, *(str(at) for at in (config.hf_hub_id, config.url) if at)))


def _torchvision(entry: ModelEntry, tag: str) -> str:
    import torchvision

    try:
        weights = torchvision.models.get_model_weights(tag).DEFAULT  # type: ignore[attr-defined]
    except ValueError:
        return f"torchvision {_version(torchvision)} {tag}"
    return f"torchvision {_version(torchvision)} {weights} {weights.url}"


def _version(project: ModuleType) -> str:
    return str(project.__version__).partition("+")[0]  # what follows names the build, for a CPU or a GPU
