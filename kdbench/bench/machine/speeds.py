"""What finished runs took of this machine, by kind: seconds an image, memory of the GPU, bytes on disk."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.bench.machine.cards import query_cards
from kdbench.bench.machine.workers import visible_gpus
from kdbench.bench.results.recipe import Recipe, recipe, recipe_of_run
from kdbench.bench.results.run_files import is_shared, read_lines
from kdbench.catalogue import methods
from kdbench.engine.result import read_record

#: of each method, pair and data set, the newest runs that are looked at
_NEWEST = 8
#: keys of a recipe on which the cost of an image depends, with all below them
_COSTLY = (
    *("AUGMENT", "DATASET.OPTIONS", "DATASET.IMAGE_SIZE", "STUDENT.OPTIONS", "STUDENT.INPUT_SIZE"),
    *(f"SOLVER.{key}" for key in ("BATCH_SIZE", "PRECISION", "CHANNELS_LAST", "COMPILE", "EMA")),
    *("TEACHER.INPUT_SIZE", "TEACHER.PRECISION", "CACHE.ENABLED"),
)
#: of these, the ones that do not act without a teacher
_OF_TEACHER = ("TEACHER.", "CACHE.")


@dataclass(frozen=True)
class Kind:
    """Runs that cost the same: one method on one pair, data set and batch."""

    method: str
    teacher: str
    student: str
    dataset: str
    settings: tuple[tuple[str, str], ...]

    def near(self, other: Kind) -> bool:
        """Whether both are of one pair. A run without a teacher is near to those of its student under any teacher, which cost no
        less."""
        mine, theirs = (self.student, self.dataset), (other.student, other.dataset)
        if mine != theirs:
            return False
        if not self.teacher:
            return self.settings == tuple(pair for pair in other.settings if not pair[0].startswith(_OF_TEACHER))
        return (self.teacher, self.settings) == (other.teacher, other.settings)


def kind_of(tree: Mapping[str, Any]) -> Kind:
    """The kind of the run of a configuration, as dictionaries."""
    return _kind(recipe(tree), str(tree["DATASET"]["TYPE"]))


def _kind(found: Recipe, dataset: str) -> Kind:
    known = methods()
    parts = [part.strip() for part in str(found["DISTILLER.TYPE"]).split("+")]
    method = "+".join(known.canonical(part) if part in known else part for part in parts)
    teacher = str(found["DISTILLER.TEACHER"])
    if all(part in known and not known.get(part).uses_teacher for part in parts):
        teacher = ""
    settings = tuple(
        (key, str(value))
        for key, value in sorted(found.items())
        if any(key == name or key.startswith(f"{name}.") for name in _COSTLY)
        and (teacher or not key.startswith(_OF_TEACHER))
    )
    return Kind(method, teacher, str(found["DISTILLER.STUDENT"]), dataset.casefold(), settings)


@dataclass(frozen=True)
class Speed:
    """Seconds of one image in training, evaluation not counted.

    Attributes:
        alone: of a run by itself. Of runs that a GPU trained together alone this is not known: it is the time of all of them then,
            which is no less.
        within: of a run among others that are trained together.
        once: of the data, which those that are trained together share.
        images: of an epoch.
        size: bytes of the run's folder.
        gpu_bytes: peak of tensors on the GPU; 0 where it is not known.
        runs: finished ones that this is the mean of.
    """

    alone: float
    within: float
    once: float
    images: float
    size: float
    gpu_bytes: int = 0
    runs: int = 1


class Speeds:
    """Of the runs that have finished below a folder on one device.

    Args:
        folder: searched with all below it; none is no error.
        device: name of the GPU, ``cpu``, or empty for runs of all devices.
        processes: of a run.
        datasets: types of data sets of which runs are looked at.
    """

    def __init__(self, folder: str | Path, device: str, processes: int, datasets: Iterable[str]) -> None:
        wanted = {name.casefold() for name in datasets}
        groups: dict[tuple[str, ...], list[tuple[float, Path]]] = {}
        for place, _, files in os.walk(folder):
            if "result.json" not in files or "timing.jsonl" not in files:
                continue
            try:
                record = read_record(Path(place) / "result.json")
                moment = os.stat(Path(place) / "result.json").st_mtime
            except (OSError, ValueError):
                continue
            facts = record.get("environment") or {}
            same = is_from(facts, device) and facts.get("world_size", 1) == processes
            if same and str(record["dataset"]).casefold() in wanted:
                names = tuple(str(record[key]) for key in ("method", "teacher", "student", "dataset"))
                groups.setdefault(names, []).append((moment, Path(place)))
        by_kind: dict[Kind, list[Speed]] = {}
        for (*_, dataset), runs in groups.items():
            for _, path in sorted(runs, reverse=True)[:_NEWEST]:
                run, speed = recipe_of_run(path), speed_of(path, gpu=device != "cpu")
                if run is not None and speed is not None:
                    by_kind.setdefault(_kind(run.recipe, dataset), []).append(speed)
        self.by_kind = {kind: _mean(found) for kind, found in by_kind.items()}

    def of(self, kind: Kind) -> Speed | None:
        """The mean of runs of this kind; None where none has finished."""
        return self.by_kind.get(kind)

    def nearest(self, kind: Kind) -> tuple[str, Speed] | None:
        """Of the methods of the same pair, the name and speed of the slowest, so that a cost is rather said too high."""
        near = [(other.method, speed) for other, speed in self.by_kind.items() if kind.near(other)]
        return max(near, key=lambda found: found[1].alone, default=None)


def speed_of(folder: Path, *, gpu: bool) -> Speed | None:
    """What ``timing.jsonl`` of a run says; None where it is missing or damaged.

    On CPUs every line has the seconds that the run would take alone, so that of its share among others only those of the data go
    off: the teacher's pass, which they share too, is not told apart and stays in. On a GPU a line of several is that of all.
    """
    try:
        lines = read_lines(folder / "timing.jsonl")
        used = [(line, float(line["seconds"]) * float(line["images_per_second"])) for line in lines[1:] or lines]
        own = [(line, images) for line, images in used if not is_shared(line)]
        among = [(line, images) for line, images in used if is_shared(line)]
        alone = _per_image([(float(line["seconds"]), images) for line, images in own or among])
        data = 0.0 if gpu else _per_image([(float(line["data_seconds"]), images) for line, images in own])
        shares = [(float(line["seconds"]) / int(line["together"]), images) for line, images in among]
        within = _per_image(shares) if among else alone - data
        peaks = [int(line.get("peak_gpu_bytes", 0)) for line in lines if not is_shared(line)]
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None
    images = sum(images for _, images in used) / len(used)
    return Speed(alone, within, data, images, float(size), max(peaks, default=0))


def _per_image(parts: Sequence[tuple[float, float]]) -> float:
    return sum(seconds for seconds, _ in parts) / sum(images for _, images in parts)


def _mean(speeds: Sequence[Speed]) -> Speed:
    count = len(speeds)

    def mean(key: str) -> float:
        return sum(getattr(one, key) for one in speeds) / count

    means = {key: mean(key) for key in ("alone", "within", "once", "images", "size")}
    return Speed(**means, gpu_bytes=max(one.gpu_bytes for one in speeds), runs=count)


def is_from(environment: Mapping[str, Any], device: str) -> bool:
    """Whether a run was made on this device, or ``device`` is empty; one that went on elsewhere names two, and is from neither."""
    place = environment.get("gpu") or environment.get("device")
    return not device or place == device


@functools.cache
def device_here() -> str:
    """Name of this machine's first GPU, or ``cpu``; ``unknown``, which no finished run has, where the GPU's name cannot be told.
    Takes no memory of the GPU."""
    gpus = visible_gpus()
    return (query_cards(gpus[:1])[0].name or "unknown") if gpus else "cpu"
