"""The teacher of a run: its network, built when it is needed, its cache, and whether it is fit to teach."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

import torch
from yacs.config import CfgNode

from kdbench.config.load import to_dict
from kdbench.data.loader import TrainLoader
from kdbench.data.source import DataSource
from kdbench.data.teacher_cache.cache import TeacherCache, ViewShape, cache_key, cache_root
from kdbench.distillers.base import Distiller
from kdbench.engine.identity.stored_options import outputs_order
from kdbench.engine.identity.teacher_records import read_accuracy, write_accuracy, write_weights
from kdbench.engine.parts import build_teacher, image_size
from kdbench.engine.precision import precision
from kdbench.engine.runtime import Runtime
from kdbench.engine.teacher.classifier import NAME, Classifier, read_classifier, write_classifier
from kdbench.engine.teacher.gate import Judgement, judge
from kdbench.engine.teacher.gate_trials import try_settings
from kdbench.engine.teacher.outputs import (
    STORED,
    LiveOutputs,
    OutputsOfLooks,
    StoredOutputs,
    TeacherOutputs,
    WholeNetwork,
)
from kdbench.engine.teacher.views import EpochViews
from kdbench.errors import IncompatibleError, ModelError
from kdbench.models.feature_model.head import HeadKind
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelSpec
from kdbench.models.weights.read import state_sha256

log = logging.getLogger(__name__)
#: keys of TEACHER that decide over these outputs, besides the weights
_DECIDES = ("WEIGHTS_EMA", "NORM", "INPUT_SIZE", "OPTIONS")


@dataclass
class Channel:
    """Outputs, and the methods that are given them."""

    outputs: TeacherOutputs
    methods: list[Distiller]


class TeacherSource:
    """The teacher of a run. The network is built when something is asked that the cache does not hold, and never before.

    What a method is given of it is :meth:`outputs_of`; see :mod:`kdbench.engine.teacher.outputs`.

    Args:
        cfg: configuration.
        data: data set.
        loader: the run's training loader.
        runtime: device and processes.
        sha256: what stands for the teacher's weights, see :func:`kdbench.engine.identity.teacher_records.teacher_identity`.
    """

    def __init__(self, cfg: CfgNode, data: DataSource, loader: TrainLoader, runtime: Runtime, sha256: str) -> None:
        self.cfg, self.data, self.loader, self.runtime = cfg, data, loader, runtime
        node = cfg.CACHE
        self.root, self.sha256 = cache_root(cfg), sha256
        # What decides over its logits and penultimate features: not which stages a method may ask for besides.
        teacher = {"name": cfg.DISTILLER.TEACHER, "sha256": sha256}
        teacher |= {key: value for key, value in to_dict(cfg.TEACHER).items() if key in _DECIDES}
        shown = {"image_size": image_size(cfg, data), "teacher": teacher, "device": runtime.device.type}
        shown |= {"classes": list(data.classes), "order": outputs_order(cfg, "TEACHER", data)}
        self.gate_key = cache_key(
            {
                **shown,
                "test": data.stamp("test"),
                "statistics": data.statistics,
                "cut": [cfg.AUGMENT.CROP_PCT, cfg.AUGMENT.EVAL_INTERPOLATION],
            }
        )
        self.key_parts = {
            **shown,
            "data": data.stamp(),
            "augment": asdict(loader.augment),
            "aug_seed": loader.aug_seed,
            # the partner of a mixed image depends on the order, and so does which images have copies
            "order_seed": loader.seed if loader.fixes_order else None,
            "repeat": loader.repeat,
            "batch_size": loader.batch_size,
            "views": node.VIEWS,
            "dtype": node.DTYPE,
            "amp": "none" if self.precision == "fp32" else self.precision,
            "channels_last": cfg.SOLVER.CHANNELS_LAST,
            "world": runtime.world,
        }
        if loader.arrangement.copies:  # a cache from before these were known keeps its key
            self.key_parts["aug_repeats"] = loader.arrangement.copies
        self.cache = TeacherCache(self.root, cache_key(self.key_parts), int(node.MAX_GB * 1e9))
        self.meta = runtime.from_main(self.cache.read_meta() if node.ENABLED and runtime.is_main else None)
        self._network: FeatureModel | None = None
        self._classifier: Classifier | None = None

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
    def precision(self) -> str:
        """Number format of its forward passes, see :mod:`kdbench.engine.precision`."""
        own = str(self.cfg.TEACHER.PRECISION)
        return str(self.cfg.SOLVER.PRECISION) if own == "auto" else own

    @property
    def is_built(self) -> bool:
        """Whether the network is in memory."""
        return self._network is not None

    @property
    def spec(self) -> ModelSpec:
        """The teacher's spec: the recorded one where it has the same stages, or the network's."""
        if self.meta is not None and self.meta.get("stages") == to_dict(self.cfg.TEACHER.STAGES):
            try:
                spec = ModelSpec.from_dict(self.meta["spec"])
                # an older record does not say that there is a classifier, of a network that must have one
                if "classifier" in spec.provides or spec.head == HeadKind.COMPOSITE.value:
                    return spec
            except (KeyError, TypeError, AttributeError):
                log.warning("teacher cache %s does not say what its teacher was; it is built", self.cache.folder)
        return self.network.spec

    def classifier(self) -> Classifier:
        """Weight (K, D) and bias (K,) of its linear classifier, on the device: from the cache where they are kept, else the
        network's.

        Raises:
            ModelError: its classifier is no plain linear layer.
        """
        if self._classifier is None:
            found = None
            if self._network is None and self.meta is not None:
                spec = self.spec
                main = self.runtime.is_main
                found = read_classifier(self.cache.folder, spec.num_classes, spec.penultimate) if main else None
                found = self.runtime.from_main(found)
            weight, bias = self.network.classifier() if found is None else found
            self._classifier = weight.to(self.runtime.device), bias.to(self.runtime.device)
        return self._classifier

    def judge(self) -> Judgement:
        """What the teacher's outputs on the test split are worth, measured once per teacher and data set."""
        known = Judgement.from_dict(self._gate_record)
        return judge(self.network, self.cfg, self.data, self.runtime) if known is None else known

    def try_settings(self) -> str:
        """With which other statistics and sizes the teacher would pass, in words."""
        try:
            return try_settings(self.network, self.cfg, self.data, self.runtime)
        except ModelError as error:
            return f"other settings could not be tried ({error})"

    def weights_sha256(self) -> str:
        """Hash of the teacher's weights, for the record: of their file; of published ones, of the values that were loaded by this
        run or by the one that measured the accuracy, else their release."""
        if self.cfg.TEACHER.WEIGHTS != "pretrained":
            return self.sha256
        if self._network is not None:
            return state_sha256(self._network.backbone.state_dict())
        return str((self._gate_record or {}).get("sha256", self.sha256))

    @functools.cached_property
    def _gate_record(self) -> dict[str, Any] | None:
        return self.runtime.from_main(read_accuracy(self.root, self.gate_key) if self.runtime.is_main else None)

    def remember(self, judgement: Judgement) -> None:
        """Record what later runs need not measure: the judgement, and (with the cache on) the hash of the weights' file, so that a
        run that is served by the cache does without the file."""
        if not self.runtime.is_main:
            return
        about = {"teacher": self.cfg.DISTILLER.TEACHER, "dataset": self.data.name}
        write_accuracy(self.root, self.gate_key, {**judgement.to_dict(), "sha256": self.weights_sha256(), **about})
        if self.cfg.CACHE.ENABLED:
            write_weights(self.root, self.cfg.TEACHER.WEIGHTS, self.sha256)

    def check_method(self, method: Distiller) -> None:
        """Refuse a method that cannot be given this teacher's outputs as the configuration has them.

        Raises:
            IncompatibleError: it runs the network itself, which would then compute in another precision.
        """
        if method.needs_networks and self.precision != self.cfg.SOLVER.PRECISION:
            raise IncompatibleError(
                f"{method.name} runs parts of the teacher itself, in the student's precision: TEACHER.PRECISION "
                f"{self.precision} beside SOLVER.PRECISION {self.cfg.SOLVER.PRECISION} is not possible, expects auto"
            )

    def outputs_of(self, methods: Sequence[Distiller], owner: str) -> dict[str, Channel]:
        """What methods are given of this teacher, batch by batch: from the network or through the cache, whichever can give it. One
        answer serves all methods of a channel.

        Args:
            methods: of students that see the same batches.
            owner: name of the run that writes to the cache.

        Returns:
            Channels by kind: ``network``, ``stored`` or ``live``; each method is in one.
        """
        kinds: dict[str, list[Distiller]] = {}
        for method in methods:
            kinds.setdefault(self._kind(method), []).append(method)
        needs = [method.teacher_needs for kind, group in kinds.items() if kind != "network" for method in group]
        live = self._live(needs)

        def outputs(kind: str, look: str = "") -> TeacherOutputs:
            if kind == "network":
                return WholeNetwork(lambda: self.network)
            if kind == "live":
                return live
            device, name = self.runtime.device, self.cfg.DISTILLER.TEACHER
            asked = not look and any("classifier" in method.teacher_needs for method in kinds["stored"])
            kept = self._kept_classifier() if asked else None
            return StoredOutputs(live, self._views(owner, look), self.loader.view, device, name, kept)

        made = {}
        for kind, group in kinds.items():
            looks = () if kind == "network" else dict.fromkeys(look for one in group for look in one.looks)
            of_images = outputs(kind)
            of_looks = {look: outputs(kind, look) for look in looks}
            made[kind] = Channel(OutputsOfLooks(of_images, of_looks) if of_looks else of_images, group)
        return made

    def live(self, needs: Iterable[AbstractSet[str]], looks: Iterable[Sequence[str]] = ()) -> TeacherOutputs:
        """Outputs from the network alone, whatever the cache holds.

        Args:
            needs: kinds of outputs, of each that is to be served.
            looks: further looks at the images, of each.
        """
        outputs = self._live(needs)
        of_looks = {name: outputs for names in looks for name in names}
        return OutputsOfLooks(outputs, of_looks) if of_looks else outputs

    def _live(self, needs: Iterable[AbstractSet[str]]) -> LiveOutputs:
        return LiveOutputs(
            lambda: self.network,
            frozenset().union(*needs),
            lambda: precision(self.precision, self.runtime.device),
            whole=self.precision != self.cfg.SOLVER.PRECISION,
        )

    def _kind(self, method: Distiller) -> str:
        if method.needs_networks:
            return "network"
        if not self.cfg.CACHE.ENABLED:
            return "live"
        if not method.teacher_needs <= STORED or method.grad_teacher:
            log.info("%s needs more of the teacher than is cached; it runs with the live teacher", method.name)
            return "live"
        return "stored"

    def _kept_classifier(self) -> Classifier:
        """The classifier, which is kept beside the views from now on."""
        found = self.classifier()
        if self.runtime.is_main and self.cache.writable and not (self.cache.folder / NAME).is_file():
            write_classifier(self.cache.folder, found)
        return found

    def _views(self, owner: str, look: str = "") -> EpochViews:
        """The views of this teacher's cache, prepared; those for a further look at the images are a cache of their own."""
        spec, cache, meta, key = self.spec, self.cache, self.meta, self.key_parts
        if look:
            key = {**key, "augment": asdict(self.loader.looks[look]), "look": look}
            cache = TeacherCache(self.root, cache_key(key), cache.max_bytes)
            meta = self.runtime.from_main(cache.read_meta() if self.runtime.is_main else None)
        layout = ViewShape(self.loader.total, spec.num_classes, spec.penultimate, self.cfg.CACHE.DTYPE)
        made = EpochViews(cache, layout, owner, self.runtime, self.loader.arrangement.places)
        if meta is None:
            about = {"spec": spec.to_dict(), "stages": to_dict(self.cfg.TEACHER.STAGES)}
            made.prepare({**about, "layout": asdict(layout), "key": key})
            views = self.cfg.CACHE.VIEWS or self.cfg.SOLVER.EPOCHS
            size, budget = views * layout.view_bytes / 1e6, self.cfg.CACHE.MAX_GB
            log.info("teacher cache %s: up to %.1f MB for %d views (budget %g GB)", cache.folder, size, views, budget)
        return made
