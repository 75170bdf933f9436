"""Where a method's teacher outputs come from: the live network, or the cache of what it said before."""

from __future__ import annotations

import functools
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
from kdbench.data.teacher_cache import CacheLayout, TeacherCache, ViewWriter, cache_key
from kdbench.distillers.base import Batch, Distiller
from kdbench.engine.build import build_teacher, image_size
from kdbench.engine.evaluation import score
from kdbench.engine.run_folder import write_atomically
from kdbench.engine.runtime import Runtime
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
        cut = [cfg.AUGMENT.CROP_PCT, cfg.AUGMENT.EVAL_INTERPOLATION]
        self.gate_key = cache_key({**shown, "cut": cut, "device": runtime.device.type})
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
        self.meta = self.cache.read_meta() if node.ENABLED else None
        self._network: FeatureModel | None = None
        self.serves = False
        self._rows: Any = None
        self._writer: ViewWriter | None = None

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
        file = self.root / "accuracy" / f"{self.gate_key}.json"
        try:
            return float(json.loads(file.read_text(encoding="utf-8"))["top1"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        batch, size = self.cfg.DATASET.TEST.BATCH_SIZE, image_size(self.cfg, self.data)
        node = self.cfg.AUGMENT
        how = {"size": size, "crop_pct": node.CROP_PCT, "interpolation": node.EVAL_INTERPOLATION}
        result = score(self.network, self.data.test, batch_size=batch, runtime=self.runtime, **how)
        return result.top1

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
        self.serves, self.owner = self.cfg.CACHE.ENABLED and kinds, owner
        if self.cfg.CACHE.ENABLED and not kinds:
            log.info("%s needs more of the teacher than is cached; it runs with the live teacher", distiller.name)
        if not self.serves:
            return
        spec = self.spec
        rows = len(self.loader.split) * self.loader.repeat
        self.layout = CacheLayout(rows, spec.num_classes, spec.penultimate, self.cfg.CACHE.DTYPE)
        if self.meta is None and self.runtime.is_main:
            self.cache.write_meta({"spec": spec_to_dict(spec), "layout": asdict(self.layout), "key": self.key_parts})
            views = self.cfg.CACHE.VIEWS or self.cfg.SOLVER.EPOCHS
            size, budget = views * self.layout.view_bytes / 1e6, self.cfg.CACHE.MAX_GB
            log.info(
                "teacher cache %s: up to %.1f MB for %d views (budget %g GB)", self.cache.folder, size, views, budget
            )

    def start_epoch(self, epoch: int) -> None:
        """Open the epoch's view for reading, or begin to write it."""
        if not self.serves:
            return
        view = self.loader.view(epoch)
        self._rows = self.cache.open(view, self.layout)
        self.runtime.barrier()  # nobody begins to write before all have looked
        if self._rows is None and self.cache.writable:
            self._writer = self._open_writer(view)

    def _open_writer(self, view: int) -> ViewWriter | None:
        writer = None
        if self.runtime.is_main and not self.cache.make_room(self.layout.view_bytes):
            log.info("teacher cache: the budget of CACHE.MAX_GB %g is used up; going on live", self.cfg.CACHE.MAX_GB)
            self.cache.writable = False
        make = functools.partial(ViewWriter, self.cache, view, self.layout, self.owner, create=self.runtime.is_main)
        for main in (True, False):  # the main process makes the file, the others open it
            if self.runtime.is_main == main and self.cache.writable:
                writer = self._guard(make)
            self.runtime.barrier()
        return writer

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            self.cache.give_up(error)
            if self._writer is not None:
                self._writer.discard()
                self._writer = None
            return None

    def end_epoch(self) -> None:
        """Publish the view that was written."""
        writer, self._writer, self._rows = self._writer, None, None
        # A view to which one process could not write has holes: it is published by all or by none.
        whole = self.runtime.all(writer is not None)
        if writer is not None and self.runtime.is_main:
            self._guard(writer.commit) if whole else writer.discard()

    def outputs(self, batch: Batch, distiller: Distiller, autocast: Callable[[], Any]) -> Any:
        """What the method asked for: outputs from the cache or the network, or the network itself."""
        if distiller.needs_networks:
            return self.network
        if self._rows is not None:
            rows = torch.from_numpy(self._rows[batch.draw.cpu().numpy()])
            # Rows that the filling run never drew (its last batch of one was dropped) are NaN; those are asked of the network.
            if not bool(rows.isnan().any()):
                rows = rows.to(self.runtime.device).float()
                return ModelOutput(*rows.split((self.layout.classes, self.layout.width), dim=1))
        with torch.no_grad(), autocast():
            output = self.network(batch.images, need=distiller.teacher_needs)
        return self._round_trip(output, batch.draw) if self.serves else output

    def _round_trip(self, output: ModelOutput, draw: Tensor) -> ModelOutput:
        stored = output.map(lambda value: value.to(_TORCH[self.layout.dtype]))
        if not bool(torch.isfinite(stored.logits).all() & torch.isfinite(stored.penultimate).all()):
            raise DataError("the teacher's outputs do not fit into 16 bits; set CACHE.DTYPE: fp32")
        if self._writer is not None:
            writer = self._writer
            self._guard(lambda: writer.write(draw.cpu(), stored.logits.cpu(), stored.penultimate.cpu()))
        return stored.map(Tensor.float)


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
