"""Does a state dict fit a network? Load it if so; if not, say what is wrong and which network it belongs to."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdbench.errors import ModelError, did_you_mean
from kdbench.models.backbone.classifier import classifier_names
from kdbench.models.networks.cifar import CIFAR_MODELS
from kdbench.models.weights.torch_files import name_of

#: share of (key, shape) pairs in common from which a file is said to look like a network
LIKENESS = 0.9
HEADS = ("strict", "reset")

_Layout = Mapping[str, tuple[int, ...]]


class HeadMismatchError(ModelError):
    """All of a file fits a network but for the classifier."""


def load_into(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    head: str = "strict",
    classifier_keys: Sequence[str] = (),
) -> list[str]:
    """Load ``state`` into the bare backbone ``module``; everything is checked before anything is copied.

    Args:
        module: the network.
        state: its tensors by key. ``num_batches_tracked`` may be absent, as old files do not have it.
        source: what an error calls the file.
        head: ``strict``, or ``reset``: a classifier that does not fit is left as it was initialised.
        classifier_keys: the classifier's keys in the state dict, e.g. ``("fc.weight", "fc.bias")``.

    Returns:
        The classifier keys that did not fit and were left out; the classifier is taken as a whole or not at all.

    Raises:
        HeadMismatchError: the classifier alone does not fit, and ``head`` is strict.
        ModelError: something else does not fit, or ``head`` is unknown. The module is unchanged.
    """
    if head not in HEADS:
        raise ModelError(f"HEAD: {head!r} is unknown, expected one of {', '.join(HEADS)}{did_you_mean(head, HEADS)}")
    own = module.state_dict()
    state = {key: _linear(value, own.get(key)) if key in classifier_keys else value for key, value in state.items()}
    needed, given = _layout(own), _layout(state)
    classifier = [key for key in classifier_keys if key in needed or key in given]
    body = set(needed) | set(given)
    body -= set(classifier)
    problem = _mismatch(needed, given, body, source)
    if problem:
        found = identify(state)
        raise ModelError(problem + (f"; the file looks like {found}" if found else ""))
    wrong = [key for key in classifier if needed.get(key) != given.get(key)]
    if wrong and head == "strict":
        raise HeadMismatchError(_classifier_mismatch(needed, given, wrong[0], source))
    reset = classifier if wrong else []
    taken = {key: value for key, value in state.items() if key in own and key not in reset}
    for key, value in taken.items():
        if value.numel() == own[key].numel() == 1:  # a count of batches may be stored as a list of one
            taken[key] = value = value.reshape(own[key].shape)
        if value.shape != own[key].shape:
            raise ModelError(
                f"{source}: {key} {list(value.shape)} is of another shape; expected {list(own[key].shape)}"
            )
        if own[key].is_floating_point() and not value.is_floating_point():
            raise ModelError(
                f"{source}: tensor {key!r} is of whole numbers ({str(value.dtype).removeprefix('torch.')}); expected "
                "floating-point weights: dequantise it and save the state dict again"
            )
    own.update(taken)
    module.load_state_dict(own)
    return reset


def identify(state: Mapping[str, Tensor]) -> str | None:
    """Name of the known network whose keys and shapes, but for the classifier, are nearest to ``state``'s.

    Known are the CIFAR networks and those of the tables; a network that has a timm name is given by it; None if nothing
    is near. A copy in which a few tensors are missing, added or of another shape (another input size) is still
    recognised.
    """
    given = _layout(state)
    best, name = 0.0, None
    for candidate in _candidates():
        layout, classifier = _candidate(candidate)
        rest = {item for item in given.items() if not item[0].startswith(classifier)}
        likeness = len(layout & rest) / max(1, len(layout | rest))
        if likeness > best:
            best, name = likeness, candidate
    return name if best >= LIKENESS else None


def _linear(value: Tensor, needed: Tensor | None) -> Tensor:
    """A classifier's 1x1 convolution (K, D, 1, 1) as the linear layer (K, D) that it is on a pooled map, where that is needed."""
    pointwise = value.dim() == 4 and value.shape[2:] == (1, 1)
    return value.flatten(1) if pointwise and needed is not None and needed.dim() == 2 else value


def _layout(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in state.items() if not k.endswith(".num_batches_tracked")}


@functools.cache
def _candidates() -> tuple[str, ...]:
    from kdbench.models.networks.paper_names import OWN, PAPER

    # timm's tags of one architecture have one layout
    return (*CIFAR_MODELS, *dict.fromkeys(f"timm:{paper.tag.partition('.')[0]}" for paper in PAPER.values()), *OWN)


@functools.cache
def _candidate(name: str) -> tuple[frozenset[tuple[str, tuple[int, ...]]], tuple[str, ...]]:
    """(key, shape) pairs of a network without its classifier, and the prefixes of the classifier's keys."""
    from kdbench.models.names import find_entry

    with torch.device("meta"):
        network = find_entry(f"cifar:{name}" if name in CIFAR_MODELS else name).build(num_classes=2)
    prefixes = tuple(f"{n}." for n in classifier_names(network))
    items = _layout(network.state_dict()).items()
    return frozenset(item for item in items if not item[0].startswith(prefixes)), prefixes


def _mismatch(needed: _Layout, given: _Layout, keys: set[str], source: str) -> str:
    """One line that says how ``given`` differs from ``needed`` in ``keys``; empty if it does not."""
    missing = [key for key in needed if key in keys and key not in given]
    unexpected = [key for key in given if key in keys and key not in needed]
    shared = [key for key in needed if key in keys and key in given]
    misshaped = [f"{key} {list(given[key])} for {list(needed[key])}" for key in shared if given[key] != needed[key]]
    if not (missing or unexpected or misshaped):
        return ""
    if not shared:
        return f"{source} fits no tensor of this network: it holds {_some(given)}, the network has {_some(needed)}"
    parts = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped))
        if names
    ]
    return f"{source} does not fit this network: {', '.join(parts)}"


def _classifier_mismatch(needed: _Layout, given: _Layout, key: str, source: str) -> str:
    if key not in given:
        return f"{source} holds no classifier ({key} {list(needed[key])}); HEAD: reset starts with a fresh one"
    if key not in needed:
        return (
            f"{source} holds a classifier ({key} {list(given[key])}), this network has none; HEAD: reset leaves it out"
        )
    return (
        f"{source} holds a classifier of another width: {key} {list(given[key])} for {list(needed[key])}; "
        "HEAD: reset starts with a fresh one"
    )


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(map(name_of, names[:limit])) + (", ..." if len(names) > limit else "")
