"""Where a method's teacher outputs come from: the live network, or the cache of what it said before."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from kdbench.config import to_dict
from kdbench.data.loader import TrainLoader
from kdbench.data.source import DataSource
from kdbench.data.teacher_cache import CacheLayout, TeacherCache, cache_key
from kdbench.distillers.base import Batch, Distiller
from kdbench.engine.build import build_teacher, image_size
from kdbench.engine.evaluation import score
from kdbench.engine.run_folder import write_atomically
from kdbench.engine.runtime import Runtime
from kdbench.engine.teacher_views import EpochViews
from kdbench.errors import DataError
from kdbench.models.checkpoints import file_sha256
from kdbench.models.features import FeatureModel
from kdbench.models.spec import ModelOutput, ModelSpec, StageSpec

log = logging.getLogger(__name__)
_CACHED = {"logits", "penultimate"}
_TORCH = {"fp16": torch.float16, "fp32": torch.float32}


class TeacherSource:
    """The teacher of a run. The network is built when something is asked that the cache does not hold, and never before.

    With the cache on, the run that fills it learns from the values after their storage round trip, so that filling and
    reading runs are the same run.

    Args:
        cfg: configuration.
        data: data set.
        loader: the run's training loader.
        runtime: device and processes.
        sha256: of the teacher's weights.
    """

    def __init__(self, cfg: CfgNode, data: DataSource, loader: TrainLoader, runtime: Runtime, sha256: str) -> None:
        self.cfg, self.data, self.loader, self.runtime = cfg, data, loader, runtime
        node = cfg.CACHE
        self.root, self.sha256 = cache_root(cfg), sha256
        teacher = {"name": cfg.DISTILLER.TEACHER, "sha256": sha256, **to_dict(cfg.TEACHER)}
        teacher.pop("WEIGHTS")
        teacher.pop("FLOOR")
        shown = {"data": data.fingerprint(), "image_size": image_size(cfg, data), "teacher": teacher}
        self.gate_key = cache_key({**shown, "crop_pct": cfg.AUGMENT.CROP_PCT, "device": runtime.device.type})
        self.key_parts = {
            **shown,
            "augment": asdict(loader.augment),
            "aug_seed": loader.aug_seed,
            # the partner of a mixed image depends on the order
            "order_seed": loader.seed if loader.augment.mixes else None,
            "repeat": loader.repeat,
            "batch_size": loader.batch_size,
            "views": node.VIEWS,
            "dtype": node.DTYPE,
            "amp": cfg.SOLVER.AMP,
            "channels_last": cfg.SOLVER.CHANNELS_LAST,
            "device": runtime.device.type,
            "world": runtime.world,
        }
        self.cache = TeacherCache(self.root, cache_key(self.key_parts), int(node.MAX_GB * 1e9))
        self.meta = runtime.from_main(self.cache.read_meta() if node.ENABLED and runtime.is_main else None)
        self._network: FeatureModel | None = None
        #: the cached views, once :meth:`serve` has found that the method's outputs go through them
        self.views: EpochViews | None = None

    @property
    def network(self) -> FeatureModel:
        """The live teacher, frozen, on the device; built at first use."""
        if self._network is None:
            teacher = build_teacher(self.cfg, self.data)
            assert teacher is not None
            if self.cfg.SOLVER.CHANNELS_LAST:
                teacher.to(memory_format=torch.channels_last)
            self._network = teacher.to(self.runtime.device)
        return self._network

    @property
    def is_built(self) -> bool:
        """Whether the network is in memory."""
        return self._network is not None

    @property
    def spec(self) -> ModelSpec:
        """The teacher's spec: the recorded one, or the network's."""
        return spec_from_dict(self.meta["spec"]) if self.meta is not None else self.network.spec

    def top1(self) -> float:
        """The teacher's accuracy on the test split (percent), measured once per teacher and data set."""
        known = self.runtime.from_main(self._recorded_top1() if self.runtime.is_main else None)
        if known is not None:
            return known
        result = score(
            self.network,
            self.data.test,
            batch_size=self.cfg.DATASET.TEST.BATCH_SIZE,
            runtime=self.runtime,
            size=image_size(self.cfg, self.data),
            crop_pct=self.cfg.AUGMENT.CROP_PCT,
            workers=self.cfg.DATASET.NUM_WORKERS,
        )
        return result.top1

    def _recorded_top1(self) -> float | None:
        file = self.root / "accuracy" / f"{self.gate_key}.json"
        try:
            return float(json.loads(file.read_text(encoding="utf-8"))["top1"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, top1: float) -> None:
        """Record what later runs need not measure: the accuracy, and (with the cache on) the hash of the weights' file, so that a
        run that is served by the cache does without the file."""
        if not self.runtime.is_main:
            return
        about = {"teacher": self.cfg.DISTILLER.TEACHER, "dataset": self.data.name}
        _record(self.root / "accuracy" / f"{self.gate_key}.json", {"top1": top1, **about})
        weights = self.cfg.TEACHER.WEIGHTS
        if self.cfg.CACHE.ENABLED and Path(weights).is_file():
            _record(_weights_record(self.root, weights), {"path": os.path.abspath(weights), "sha256": self.sha256})

    def serve(self, distiller: Distiller, owner: str) -> None:
        """Decide whether this method's outputs go through the cache, and prepare it."""
        kinds = distiller.teacher_needs <= _CACHED and not distiller.needs_networks and not distiller.grad_teacher
        if not self.cfg.CACHE.ENABLED:
            return
        if not kinds:
            log.info("%s needs more of the teacher than is cached; it runs with the live teacher", distiller.name)
            return
        spec = self.spec
        rows = len(self.loader.split) * self.loader.repeat
        layout = CacheLayout(rows, spec.num_classes, spec.penultimate, self.cfg.CACHE.DTYPE)
        self.views = EpochViews(self.cache, layout, owner, self.runtime)
        if self.meta is None:
            self.views.prepare({"spec": spec_to_dict(spec), "layout": asdict(layout), "key": self.key_parts})
            views = self.cfg.CACHE.VIEWS or self.cfg.SOLVER.EPOCHS
            size, budget = views * layout.view_bytes / 1e6, self.cfg.CACHE.MAX_GB
            log.info(
                "teacher cache %s: up to %.1f MB for %d views (budget %g GB)", self.cache.folder, size, views, budget
            )

    def start_epoch(self, epoch: int) -> None:
        """Open the epoch's view for reading, or begin to write it."""
        if self.views is not None:
            self.views.start(self.loader.view(epoch))

    def end_epoch(self) -> None:
        """Publish the view that was written."""
        if self.views is not None:
            self.views.end()

    def outputs(self, batch: Batch, distiller: Distiller, autocast: Callable[[], Any]) -> Any:
        """What the method asked for: outputs from the cache or the network, or the network itself.

        Raises:
            DataError: outputs that are to be cached are not finite, or too large for the storage type.
        """
        if distiller.needs_networks:
            return self.network
        rows = None if self.views is None else self.views.read(batch.draw)
        if self.views is not None and rows is not None:
            layout = self.views.layout
            return ModelOutput(*rows.to(self.runtime.device).float().split((layout.classes, layout.width), dim=1))
        with torch.no_grad(), autocast():
            output = self.network(batch.images, need=distiller.teacher_needs)
        return output if self.views is None else self._round_trip(output, batch.draw, self.views)

    def _round_trip(self, output: ModelOutput, draw: Tensor, views: EpochViews) -> ModelOutput:
        stored = output.map(lambda value: value.to(_TORCH[views.layout.dtype]))
        if not _finite(stored):
            if _finite(output):
                raise DataError("the teacher's outputs do not fit into 16 bits; set CACHE.DTYPE: fp32")
            raise DataError(
                f"teacher {self.cfg.DISTILLER.TEACHER!r} gives NaN or infinite outputs on training images: are its weights "
                "damaged, or its TEACHER.NORM wrong? (SOLVER.AMP fp16 may overflow where bf16 does not)"
            )
        views.write(draw, stored.logits, stored.penultimate)
        return stored.map(Tensor.float)


def _finite(output: ModelOutput) -> bool:
    return bool(torch.isfinite(output.logits).all() & torch.isfinite(output.penultimate).all())


def cache_root(cfg: CfgNode) -> Path:
    """Folder of the caches."""
    return Path(cfg.CACHE.DIR or Path(cfg.LOG.PREFIX) / ".teacher-cache")


def teacher_sha256(cfg: CfgNode) -> str:
    """Hash of the teacher's weights; of a file that is gone, the one that a caching run recorded for its path.

    Raises:
        ModelError: there is neither file nor record.
    """
    weights = cfg.TEACHER.WEIGHTS
    if weights in ("", "pretrained"):
        return weights
    if cfg.CACHE.ENABLED and not Path(weights).exists():
        try:
            recorded = json.loads(_weights_record(cache_root(cfg), weights).read_text(encoding="utf-8"))["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return file_sha256(weights)
        log.info("%s is gone; using what the cache recorded of it", weights)
        return str(recorded)
    return file_sha256(weights)


def _weights_record(root: Path, weights: str) -> Path:
    return root / "weights" / f"{hashlib.sha256(os.path.abspath(weights).encode()).hexdigest()[:16]}.json"


def _record(file: Path, values: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(values) + "\n")
    except OSError as error:
        log.warning("%s cannot be written (%s)", file, error.strerror)


def spec_to_dict(spec: ModelSpec) -> dict[str, Any]:
    """A spec as JSON takes it."""
    return {**asdict(spec), "provides": sorted(spec.provides)}


def spec_from_dict(values: dict[str, Any]) -> ModelSpec:
    """The inverse of :func:`spec_to_dict`."""

    def stage(entry: Any) -> StageSpec | None:
        return None if entry is None else StageSpec(**{**entry, "grid": tuple(entry["grid"])})

    values = dict(values)
    for key in ("stages", "pre_activation"):
        values[key] = tuple(stage(entry) for entry in values[key])
    values["stem"] = stage(values.get("stem"))
    return ModelSpec(**{**values, "provides": frozenset(values["provides"]), "input_size": tuple(values["input_size"])})
