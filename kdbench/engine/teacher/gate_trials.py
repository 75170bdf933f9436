"""A teacher that fails: with which statistics, input size and crop would it pass?"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from yacs.config import CfgNode

from kdbench.data.loader import standard_crop_pct
from kdbench.data.source import DataSource
from kdbench.engine.parts import image_size
from kdbench.engine.runtime import Runtime
from kdbench.engine.teacher.gate import Judgement, find_fault, judge
from kdbench.errors import KdbenchError, ModelError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.names import find_entry
from kdbench.models.spec import Statistics
from kdbench.models.weights.load import NORMS
from kdbench.models.weights.read import read_recorded, read_weights

log = logging.getLogger(__name__)
IMAGES = 200
SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 288, 384)
CROPS = (1.0, 0.95, 0.9, 0.875)
#: after which no further setting is tried: a large network on a CPU takes minutes for each
SECONDS = 120.0


@dataclass(frozen=True)
class Trial:
    """Settings to try; None and 0 leave a thing as it is."""

    norm: str = ""
    size: int = 0
    crop: float = 0.0

    def goes_beyond(self, other: Trial) -> bool:
        """Whether it changes all that the other one changes, in the same way."""
        pairs = ((self.norm, other.norm), (self.size, other.size), (self.crop, other.crop))
        return all(mine == theirs or not theirs for mine, theirs in pairs)

    def __str__(self) -> str:
        words = [
            f"TEACHER.NORM: {self.norm}" if self.norm else "",
            f"TEACHER.INPUT_SIZE: {self.size}" if self.size else "",
        ]
        return (
            ", ".join(w for w in (*words, f"AUGMENT.CROP_PCT: {self.crop:g}" if self.crop else "") if w)
            or "the same settings"
        )


def try_settings(model: FeatureModel, cfg: CfgNode, data: DataSource, runtime: Runtime) -> str:
    """Evaluate the teacher on some hundred test images with the likely settings, and say which would pass.

    Tried are the data set's, ImageNet's, Inception's and no statistics at the likely sizes of the input (one that the weights' file
    records, the network's own, common ones up to the image), then crop percentages at the best of them.
    """
    start = time.monotonic()
    places = torch.linspace(0, len(data.test) - 1, min(IMAGES, len(data.test))).long().unique()
    small = replace(data, test=data.test.subset(places))
    tried: dict[Trial, Judgement] = {}

    def measure(trial: Trial) -> None:
        if trial in tried or not runtime.all(time.monotonic() - start < SECONDS):
            return
        changed = _variant(model, trial, data)
        if changed is not None:
            tried[trial] = judge(changed, _cropped(cfg, trial.crop), small, runtime)

    for trial in _likely(model, cfg, data):
        measure(trial)
    used = cfg.AUGMENT.CROP_PCT or standard_crop_pct(data.test)
    for crop in CROPS:
        if crop == used:
            continue
        best = max(tried, key=lambda trial: tried[trial].top1, default=Trial())
        measure(replace(best, crop=crop))
    return _report(cfg, small, tried)


def _report(cfg: CfgNode, small: DataSource, tried: dict[Trial, Judgement]) -> str:
    order = sorted(tried, key=lambda trial: (-tried[trial].top1, len(str(trial))))
    passing = [trial for trial in order if trial != Trial() and not find_fault(cfg, small, tried[trial])[0]]
    # one that changes more than another one, and is not clearly better, says nothing
    passing = [
        t for t in passing if not any(t.goes_beyond(u) and tried[t].top1 < tried[u].top1 + 1 for u in passing if u != t)
    ]
    on = f"on {len(small.test)} test images"
    if passing:
        shown = "; or ".join(f"{trial} ({tried[trial].top1:.1f}%)" for trial in passing[:3])
        return f"{on} it would pass with {shown}"
    norms = ", ".join(dict.fromkeys(trial.norm for trial in tried if trial.norm)) or "the same"
    sizes = ", ".join(str(s) for s in sorted({trial.size for trial in tried if trial.size})) or "the same"
    crops = ", ".join(f"{c:g}" for c in sorted({trial.crop for trial in tried if trial.crop})) or "the same"
    best = f", the best is {order[0]} ({tried[order[0]].top1:.1f}%)" if order else ""
    return f"{on} it passes with none of TEACHER.NORM {norms}, INPUT_SIZE {sizes} and CROP_PCT {crops}{best}: wrong weights?"


def _likely(model: FeatureModel, cfg: CfgNode, data: DataSource) -> Iterator[Trial]:
    norms = [name for name, values in _norms(data).items() if not _same(values, model.statistics)]
    sizes = [size for size in _sizes(model, cfg, data) if (size, size) != model.input_size]
    for size in (0, *sizes):
        for norm in ("", *norms):
            yield Trial(norm, size)


def _norms(data: DataSource) -> dict[str, Statistics]:
    return {"dataset": data.statistics, **{name: NORMS[name] for name in ("imagenet", "inception", "none")}}


def _same(one: Statistics, other: Statistics) -> bool:
    return [list(map(float, values)) for values in one] == [list(map(float, values)) for values in other]


def _sizes(model: FeatureModel, cfg: CfgNode, data: DataSource) -> list[int]:
    """Likely first; none where the network takes one size only."""
    handed = image_size(cfg, data)
    entry = find_entry(cfg.DISTILLER.TEACHER, cfg.TEACHER.INPUT_SIZE or handed)
    if not entry.any_size:
        return []
    recorded = _recorded_size(cfg.TEACHER.WEIGHTS)
    common = [size for size in SIZES if size <= handed]
    return list(dict.fromkeys(size for size in (recorded, entry.input_size, *common) if size))


def _recorded_size(weights: str) -> int:
    if not Path(weights).is_file():
        return 0
    try:
        size = read_recorded(weights).input_size or (read_weights(weights)[1].get("input_size") or [0])[-1]
        return int(size)
    except (KdbenchError, TypeError, ValueError):
        return 0


def _variant(model: FeatureModel, trial: Trial, data: DataSource) -> FeatureModel | None:
    """The same network behind another input; None where it does not take it."""
    size = (trial.size, trial.size) if trial.size else model.input_size
    try:
        made = FeatureModel(
            model.backbone,
            name=model.spec.name,
            family=model.spec.family,
            num_classes=model.spec.num_classes,
            input_size=size,
            statistics=_norms(data)[trial.norm] if trial.norm else model.statistics,
        )
    except ModelError as error:
        log.debug("%s: %s", trial, error)
        return None
    return made.to(next(model.backbone.parameters()).device).eval()


def _cropped(cfg: CfgNode, crop: float) -> CfgNode:
    if not crop:
        return cfg
    made = cfg.clone()
    made.defrost()
    made.AUGMENT.CROP_PCT = crop
    made.freeze()
    return made
