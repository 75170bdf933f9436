"""Rules that a single range or choice does not say: lists of numbers, and keys that depend on each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kdbench.config.defaults import DOT_TRAINERS, PLACED
from kdbench.config.values import checkpoint_every
from kdbench.errors import shown
from kdbench.paths import leads_out

_LARGEST_OPTION = 1_000_000
_MAGNITUDE = 10.0  # the strongest level of timm's RandAugment, where the string does not say another


def broken_rules(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with its value) for every rule that a complete tree breaks."""
    augment, solver = tree["AUGMENT"], tree["SOLVER"]
    pairs = (
        ("AUGMENT.RRC_SCALE", augment["RRC_SCALE"], 1.0, "shares of the image's area with 0 < low <= high <= 1"),
        ("AUGMENT.RRC_RATIO", augment["RRC_RATIO"], math.inf, "aspect ratios with 0 < low <= high"),
    )
    for key, value, top, what in pairs:
        if not (_numbers(value, 2) and 0 < value[0] <= value[1] <= top):
            yield key, f"expects [low, high], {what}, got {_show(value)}"
    yield from _auto(augment["AUTO"])
    if solver["TRAINER"] in DOT_TRAINERS:
        yield from _dot(solver)
    if solver["ACCUMULATE"] > solver["BATCH_SIZE"]:
        yield (
            "SOLVER.ACCUMULATE",
            f"{solver['ACCUMULATE']} parts of a batch of SOLVER.BATCH_SIZE={solver['BATCH_SIZE']}",
        )
    copies, views = tree["DATASET"]["AUG_REPEATS"], tree["CACHE"]["VIEWS"]
    if copies and 0 < views < solver["EPOCHS"]:
        yield (
            "CACHE.VIEWS",
            f"{views} epochs in turn would leave out images for good, of which each epoch has one of DATASET.AUG_REPEATS={copies}; "
            "set one of them to 0",
        )
    stages = solver["LR_DECAY_STAGES"]
    if not (_numbers(stages) and all(a < b for a, b in zip((-1, *stages), stages))):
        yield "SOLVER.LR_DECAY_STAGES", f"expects epochs, each later than the one before, got {_show(stages)}"
    try:
        checkpoint_every(solver["CHECKPOINT_EVERY"])
    except ValueError as error:
        yield "SOLVER.CHECKPOINT_EVERY", str(error)
    warmup = solver["WARMUP_EPOCHS"]
    if solver["SCHEDULE_PER"] == "epoch" and not float(warmup).is_integer():
        yield "SOLVER.WARMUP_EPOCHS", f"{warmup:g} is no whole number, which only SOLVER.SCHEDULE_PER: step can follow"
    for key in ("NAME", "TAG"):
        value = tree["EXPERIMENT"][key]
        odd = any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in value)  # no text of UTF-8
        if odd or leads_out(value):
            yield f"EXPERIMENT.{key}", f"{shown(value)} leads out of LOG.PREFIX; expects a name, or names joined by /"
    kind, colon, place = tree["DATASET"]["TYPE"].partition(":")
    if kind.lower() in PLACED and colon and not place.strip():
        what = "file" if kind.lower() in ("csv", "npz") else "folder"
        yield "DATASET.TYPE", f"{kind + colon!r} names no {what}; write {kind.lower()}:<path>"
    for key in ("PART_WEIGHTS", "PART_CE_WEIGHTS"):
        if not _numbers(tree["DISTILLER"][key]):
            yield f"DISTILLER.{key}", f"expects numbers, got {_show(tree['DISTILLER'][key])}"
    for section in ("TEACHER", "STUDENT", "DATASET"):
        yield from _options(section, tree[section]["OPTIONS"])
    for role in ("TEACHER", "STUDENT"):
        norm = tree[role]["NORM"]
        if not (
            isinstance(norm, str) or (len(norm) == 2 and all(_numbers(part, 3) for part in norm) and min(norm[1]) > 0)
        ):
            yield f"{role}.NORM", f"expects a word or [[mean x 3], [std x 3]] with positive std, got {_show(norm)}"


def _dot(solver: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the distillation-oriented trainer goes with."""
    trainer = solver["TRAINER"]
    for key, value in (("TYPE", "SGD"), ("NESTEROV", False), ("COMPILE", False)):
        if solver[key] != value:
            yield f"SOLVER.{key}", f"SOLVER.TRAINER: {trainer} takes {value}, got {solver[key]}"
    delta, momentum = solver["DOT"]["DELTA"], solver["MOMENTUM"]
    if not (_numbers([delta, momentum]) and momentum - delta >= 0 and momentum + delta < 1):
        yield (
            "SOLVER.DOT.DELTA",
            f"SOLVER.MOMENTUM={_show(momentum)} less and more {_show(delta)} are two momenta, which lie in [0, 1)",
        )


def _options(section: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names that no builder can have, and numbers that no network has and no memory holds."""
    for name, value in options.items():
        if not isinstance(name, str) or not name.isidentifier():
            yield f"{section}.OPTIONS", f"expects names of options, got {shown(name)}"
        elif section != "DATASET" and "seed" not in name.lower():
            too_large = [number for number in _whole_numbers(value) if abs(number) > _LARGEST_OPTION]
            if too_large:
                yield (
                    f"{section}.OPTIONS.{name}",
                    f"{shown(too_large[0])} lies outside [-{_LARGEST_OPTION}, {_LARGEST_OPTION}], as no width or count does",
                )


def _whole_numbers(value: Any) -> Iterator[int]:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    for part in parts:
        yield from _whole_numbers(part)
    if isinstance(value, int):
        yield value


def _auto(text: str) -> Iterator[tuple[str, str]]:
    """Ranges of timm's RandAugment string; what else may be wrong with it is found where it is read."""
    if not text.startswith("rand"):
        return
    found = {name: float(number) for name, number in re.findall(r"-([a-z]+)(\d+(?:\.\d+)?)(?=-|$)", text)}
    most = found.get("mmax", _MAGNITUDE)
    rules = (
        ("m", found.get("m", 0.0) <= most, f"the magnitude, lies in 0..{most:g}"),
        (
            "n",
            found.get("n", 1.0) >= 1 and found.get("n", 1.0).is_integer(),
            "operations an image, is a whole number from 1",
        ),
        ("p", found.get("p", 0.0) <= 1, "a probability, lies in 0..1"),
    )
    for name, holds, rule in rules:
        if not holds:
            yield "AUGMENT.AUTO", f"{text!r}: {name}, {rule}, got {found[name]:g}"


def _numbers(value: Any, count: int | None = None) -> bool:
    if not isinstance(value, (tuple, list)) or (count is not None and len(value) != count):
        return False
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in value)


def _show(value: Any) -> str:
    return str([list(v) if isinstance(v, tuple) else v for v in value]) if isinstance(value, tuple) else repr(value)
