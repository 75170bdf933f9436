"""Is a teacher fit to teach? Its accuracy, and what that number hides: one class for every image, NaN, another order of classes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from kdbench.data.loader import standard_crop_pct
from kdbench.data.source import DataSource
from kdbench.engine.evaluation import score
from kdbench.engine.identity.canonical import default_floor
from kdbench.engine.parts import evaluation_options, image_size
from kdbench.engine.runtime import Runtime
from kdbench.errors import TeacherGateError
from kdbench.models.feature_model.model import FeatureModel

log = logging.getLogger(__name__)
#: share of the way from chance to certainty that a teacher must have gone in the mean over the classes; in top-1 a quarter
CLASSES = 0.1
#: with more classes a table of all confusions takes too much memory, and their order is not looked at
_LARGEST_TABLE = 2048
#: images of moved classes from which a permutation is believed, and what share of them is right by it, and without it
_FEWEST, _BY_IT, _WITHOUT = 10, 0.5, 0.25


@dataclass(frozen=True)
class Judgement:
    """What a teacher's outputs on the test split are worth.

    Attributes:
        top1: accuracy in percent.
        mean_recall: accuracy of each class on its own, mean over the classes that have test images, in percent.
        not_finite: images whose outputs are NaN or infinite.
        moved: pairs (class of the images, class that nearly all of them are taken for) where exchanging the outputs so mends it.
        permuted: top-1 in percent after that exchange, measured on other images than it was found on; 0 without one.
        how: sizes and statistics that were used, in words.
    """

    top1: float
    mean_recall: float
    not_finite: int = 0
    moved: tuple[tuple[int, int], ...] = ()
    permuted: float = 0.0
    how: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Judgement | None:
        """The inverse; None for what is no record of this form."""
        try:
            known = {field.name: values[field.name] for field in fields(cls)}
            moved = tuple((int(a), int(b)) for a, b in known["moved"])
            return cls(**{**known, "moved": moved, "top1": float(known["top1"])})
        except (KeyError, TypeError, ValueError):
            return None


def judge(model: FeatureModel, cfg: CfgNode, data: DataSource, runtime: Runtime) -> Judgement:
    """Run the teacher over the test split once."""
    tally = _Tally(model.spec.num_classes)
    result = score(model, data.test, runtime=runtime, observe=tally, **evaluation_options(cfg, data))
    counts = runtime.sum(tally.counts.to(runtime.device)).cpu()
    table = runtime.sum(tally.table.to(runtime.device)).cpu() if len(tally.table) else tally.table
    hits, there = counts[:-1].view(2, -1).double()
    seen = there > 0
    moved, permuted = _permutation(table) if len(table) else ((), 0.0)
    return Judgement(
        result.top1,
        round(float(100 * (hits[seen] / there[seen]).mean()), 4),
        int(counts[-1]),
        moved,
        permuted,
        describe(model, cfg, data),
    )


class _Tally:
    """Counts of one pass: per class, and, for images at even and odd places apart, of every (label, prediction)."""

    def __init__(self, classes: int) -> None:
        self.classes, self.seen = classes, 0
        self.counts = torch.zeros(
            2 * classes + 1, dtype=torch.int64
        )  # hits, images, and those with outputs that are not finite
        self.table = torch.zeros((2, classes, classes) if classes <= _LARGEST_TABLE else 0, dtype=torch.int32)

    def __call__(self, logits: Tensor, labels: Tensor) -> None:
        guess, labels = logits.argmax(dim=1).cpu(), labels.cpu()
        ones = torch.ones_like(labels)
        self.counts[: self.classes].index_add_(0, labels, (guess == labels).long())
        self.counts[self.classes : -1].index_add_(0, labels, ones)
        self.counts[-1] += int((~torch.isfinite(logits)).any(dim=1).sum())
        if len(self.table):
            half = (self.seen + torch.arange(len(labels))) % 2
            place = (half * self.classes + labels) * self.classes + guess
            self.table.view(-1).index_add_(0, place, ones.int())
        self.seen += len(labels)


def _permutation(table: Tensor) -> tuple[tuple[tuple[int, int], ...], float]:
    """Classes that come out as others, from (2, K, K) counts of two halves: found on each half, and counted on the other."""
    from scipy.optimize import linear_sum_assignment

    whole = table.sum(dim=0).numpy()
    places = linear_sum_assignment(whole, maximize=True)[1]
    moved = [(label, int(place)) for label, place in enumerate(places) if place != label and whole[label].sum()]
    rows = [label for label, _ in moved]
    images = int(whole[rows].sum())
    if images < _FEWEST:
        return (), 0.0
    right = total = 0
    moved_right = 0
    for half in (0, 1):
        found, other = table[half].numpy(), table[1 - half].numpy()
        columns = linear_sum_assignment(found, maximize=True)[1]
        by_it = other[range(len(other)), columns]
        right, total = right + int(by_it.sum()), total + int(other.sum())
        moved_right += int(by_it[rows].sum())
    if moved_right < _BY_IT * images or int(whole[rows, rows].sum()) > _WITHOUT * images:
        return (), 0.0
    # an exchange of classes that are alike and rarely seen is no error of order
    clear = tuple((a, b) for a, b in moved if whole[a, b] > whole[a, a])
    return clear, round(100 * right / max(total, 1), 2)


def describe(model: FeatureModel, cfg: CfgNode, data: DataSource) -> str:
    """Sizes and statistics with which a network is evaluated, in words."""
    height, width = model.input_size
    side = f"{height}" if height == width else f"{height}x{width}"
    mean, std = ([round(value, 4) for value in values] for values in model.statistics)
    crop = cfg.AUGMENT.CROP_PCT or standard_crop_pct(data.test)
    return (
        f"images of {image_size(cfg, data)} pixels, AUGMENT.CROP_PCT {crop:g}, network input of {side} pixels, NORM "
        f"[{mean}, {std}]"
    )


def floors(cfg: CfgNode, classes: int) -> tuple[float, float]:
    """The lowest top-1, and the lowest mean over the classes, in percent."""
    chance = 1.0 / classes
    floor = cfg.TEACHER.FLOOR if cfg.TEACHER.FLOOR >= 0 else default_floor(classes)
    return 100 * floor, 100 * min(floor, chance + CLASSES * (1.0 - chance))


def find_fault(cfg: CfgNode, data: DataSource, judgement: Judgement) -> tuple[str, bool]:
    """What is wrong with a teacher, in one clause (empty: nothing), and whether other sizes or statistics may mend it."""
    lowest, lowest_mean = floors(cfg, data.num_classes)
    where = f"top-1 on {data.name} ({judgement.how})"
    if judgement.not_finite:
        return (
            f"gives NaN or infinite outputs for {judgement.not_finite} test images ({judgement.how}): damaged weights?",
            True,
        )
    if judgement.moved:
        shown = ", ".join(f"{data.classes[a]!r} as {data.classes[b]!r}" for a, b in judgement.moved[:3])
        more = f" and {len(judgement.moved) - 3} more" if len(judgement.moved) > 3 else ""
        return (
            f"has its outputs in another order than the classes of {data.name}: it takes {shown}{more}; it reaches "
            f"{judgement.top1:.2f}% {where}, and {judgement.permuted:.2f}% with its outputs exchanged. Bring its "
            "classifier, or the data set's classes, into the other's order (of a folder: DATASET.OPTIONS.class_order)"
        ), False
    if judgement.top1 < lowest:
        return f"reaches {judgement.top1:.2f}% {where}, below the floor of {lowest:.2f}%", True
    if judgement.mean_recall < lowest_mean:
        return (
            f"reaches {judgement.top1:.2f}% {where} by its largest classes alone: the mean over the classes is "
            f"{judgement.mean_recall:.2f}%, below the floor of {lowest_mean:.2f}%"
        ), True
    return "", False


def check_gate(cfg: CfgNode, data: DataSource, judgement: Judgement, trials: Callable[[], str] | None = None) -> None:
    """Refuse a teacher that is not fit to teach.

    Args:
        cfg: configuration.
        data: data set; one of random images has no gate.
        judgement: what :func:`judge` found.
        trials: ``fn() -> str``, which looks for sizes and statistics with which it would be, and says so.

    Raises:
        TeacherGateError: its top-1 or the mean over the classes is below the floor, outputs are not finite, or its classes have
            another order.
    """
    if not data.gate:
        return
    fault, mendable = find_fault(cfg, data, judgement)
    if not fault:
        return
    if judgement.moved and not judgement.not_finite and floors(cfg, data.num_classes)[0] == 0:
        log.warning("teacher %r %s", cfg.DISTILLER.TEACHER, fault)
        return
    hint = f"; {trials()}" if mendable and trials is not None else ""
    remedy = "" if judgement.not_finite else " (TEACHER.FLOOR sets another floor, 0 none)"
    raise TeacherGateError(f"teacher {cfg.DISTILLER.TEACHER!r} {fault}{hint}{remedy}")
