"""The base of every method: what it declares, what it is built from, and the one hook that it fills."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench import registry
from kdbench.distillers.batch import Batch, DataInfo, joined, run
from kdbench.distillers.declaration import check_declaration
from kdbench.distillers.parts.task_loss import task_loss
from kdbench.distillers.phase import Phase
from kdbench.domains import Domain, violations
from kdbench.errors import ConfigError, IncompatibleError, did_you_mean
from kdbench.models.spec import ModelOutput, ModelSpec
from kdbench.random import forked_seed
from kdbench.registry import Registry

if TYPE_CHECKING:
    from kdbench.models.feature_model.model import FeatureModel

__all__ = ["Batch", "DataInfo", "Distiller", "Losses", "register_distiller"]
log = logging.getLogger(__name__)
Losses = dict[str, Tensor]


class HasClassifier(Protocol):
    """What gives a teacher's linear classifier."""

    def classifier(self) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,)."""


class Distiller(nn.Module):
    """One distillation method.

    A subclass declares what it needs, gives its default hyperparameters, builds its modules in :meth:`setup` and returns
    named, weighted loss terms from :meth:`losses`. The engine acts on the declarations and never on a method's name.

    Class attributes:
        teacher_needs / student_needs: output kinds, a subset of ``OUTPUT_KINDS``. Where these or the flags below depend
            on the configuration, an instance replaces them; the engine therefore reads them from the instance.
        looks: further looks at each image that the method sees, names in :data:`kdbench.data.augmentation.looks.LOOKS`; what it is
            given of student and teacher holds their outputs in ``looks``.
        defaults: hyperparameters; they become the configuration node of the method's name.
        domains: what a hyperparameter may be, by its dotted key: an interval or words, see :mod:`kdbench.domains`.
        effective: hyperparameters that act only where others are in a domain (``{"K": {"MODE": ("top",)}}``), or never (a text
            that says why); one that is given all the same is named in a warning.
        presets: other published settings by name; a recipe picks one with ``DISTILLER.PRESET``. Beside hyperparameters one may
            hold ``STUDENT`` and ``TEACHER``, keys of these sections.
        added: hyperparameters that came after runs were stored; at their default they are no part of a run's name.
        reference: paper, venue, year, and the original implementation that was compared.
        verified: what the loss was checked against; ``"unverified"`` where no original implementation was seen.
        uses_teacher: False for training without a teacher.
        several_teachers: it learns from several at once, whose outputs are ``teacher.each`` and whose specs ``teacher_specs``.
        needs_networks: the method runs inside the networks and overrides :meth:`forward`.
        needs_labels: it draws from the labels of the whole training set.
        grad_teacher: gradients flow through the teacher's operations (its weights stay frozen).
        min_batch: smallest batch for which the loss is defined.
        min_classes: smallest number of classes for which it is.
        kind: of what is compared: ``logits``, ``features`` or ``relations`` (between samples); empty: as its needs say.
        task_terms: names of the loss terms that are the task's, as a student without a teacher has them; the others distil.
            ``SOLVER.TRAINER: dot`` keeps their gradients apart.
        batch_coupled: the loss couples the samples of a batch, so that its value depends on how a batch is cut.
        adapts_student: :meth:`adapt` changes the network that is trained and deployed.
        unused_parameters: in some steps a trained parameter of the student or of the method gets no gradient (a branch that is
            drawn, a term that begins later, a module that a configuration leaves out). Several processes then look for such
            parameters in every step; where none is declared and one is found, training stops. Parameters that the student's
            network itself leaves out, whatever is asked of it, are found without a declaration.
        capturable: on a GPU a step may be recorded once as a CUDA graph and replayed: what is computed does not depend on values
            of the data, nor on anything that the host draws or counts from step to step, and state is written in place. Only
            what depends on the step before (is there one? was its batch as large?) may be left to the host: the first step of a
            process, and one behind a batch of another size, are never replayed. False runs every step anew.
    """

    teacher_needs: AbstractSet[str] = frozenset({"logits"})
    student_needs: AbstractSet[str] = frozenset({"logits"})
    looks: tuple[str, ...] = ()
    defaults: ClassVar[dict[str, Any]] = {}
    domains: ClassVar[dict[str, Domain]] = {}
    effective: ClassVar[dict[str, dict[str, Any] | str]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    added: ClassVar[tuple[str, ...]] = ()
    reference: str = ""
    verified: str = "unverified"
    kind: str = ""
    uses_teacher: bool = True
    several_teachers: bool = False
    needs_networks: bool = False
    needs_labels: bool = False
    grad_teacher: bool = False
    min_batch: int = 1
    min_classes: int = 2
    task_terms: tuple[str, ...] = ("ce",)
    batch_coupled: bool = False
    adapts_student: bool = False
    unused_parameters: bool = False
    capturable: bool = True
    name: str = ""

    def __init_subclass__(cls, **options: Any) -> None:
        """Give the class declarations of its own: what is inherited, or taken from another method, is copied."""
        super().__init_subclass__(**options)
        cls.teacher_needs, cls.student_needs = frozenset(cls.teacher_needs), frozenset(cls.student_needs)
        cls.defaults, cls.presets = copy.deepcopy(cls.defaults), copy.deepcopy(cls.presets)
        cls.domains, cls.effective = dict(cls.domains), copy.deepcopy(cls.effective)

    def __init__(
        self,
        student: ModelSpec,
        teacher: ModelSpec | Sequence[ModelSpec] | None,
        cfg: CfgNode,
        data: DataInfo,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.student_spec = student
        self.data = data
        self.cfg = cfg
        self.seed = seed
        for key, message in violations(cfg, self.domains):
            raise ConfigError(f"{self.name}.{key}: {message}")
        specs = (teacher,) if isinstance(teacher, ModelSpec) else tuple(teacher or ())
        if self.uses_teacher and not specs:
            raise ConfigError(
                f"{self.name} needs a teacher; name one with DISTILLER.TEACHER, and its weights with TEACHER.WEIGHTS"
            )
        if len(specs) > 1 and self.uses_teacher and not self.several_teachers:
            raise IncompatibleError(f"{self.name} learns from one teacher, and {len(specs)} are given")
        self._teacher_spec, self.teacher_specs = next(iter(specs), None), specs
        for spec in specs or (None,):
            reason = self.refuses(student, spec, cfg, data)
            if reason:
                raise IncompatibleError(f"{self.name} is undefined for this pair: {reason}")
        with self.seeded("setup"):
            self.setup()

    @property
    def teacher_spec(self) -> ModelSpec:
        """The teacher's spec; of several, the first one's."""
        if self._teacher_spec is None:
            raise ConfigError(f"{self.name} has no teacher")
        return self._teacher_spec

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        """Why the method is undefined for this pair, or None; subclasses add their own reasons after ``super()``'s."""
        for role, spec, needs in (("student", student, cls.student_needs), ("teacher", teacher, cls.teacher_needs)):
            missing = sorted(needs - spec.provides) if spec is not None else []
            if missing:
                return f"the {role} {spec.name or spec.family} gives no {', '.join(missing)}"  # type: ignore[union-attr]
        if data.num_classes < cls.min_classes:
            return f"it needs at least {cls.min_classes} classes, and there are {data.num_classes}"
        compares_logits = teacher is not None and cls.uses_teacher and "logits" in cls.teacher_needs
        if compares_logits and teacher is not None and teacher.num_classes != student.num_classes:
            return f"the teacher knows {teacher.num_classes} classes, the student {student.num_classes}"
        return None

    def setup(self) -> None:
        """Build the method's own modules and check its hyperparameters. The global generator is seeded from
        (seed, method) here, so plain PyTorch initialisation is reproducible; ``with self.seeded("name")`` gives a module
        a stream of its own, so that its weights do not depend on the modules built before it."""

    def adapt(self, student: FeatureModel, teacher: HasClassifier | None = None) -> FeatureModel:
        """The student as it is trained, evaluated and exported: the network itself, unless ``adapts_student``. It is called once,
        before the first step.

        Args:
            student: the network; what comes back may be made of its modules, and it is of no use then.
            teacher: the teacher's :class:`kdbench.FeatureModel`, or whatever else has its ``classifier()``.
        """
        return student

    def phases(self) -> Sequence[Phase]:
        """What is trained before the first epoch, in this order: modules on the teacher alone, then the student with a loss of its
        own (:class:`kdbench.distillers.phase.Phase`). The engine does so; the modules are frozen at all other times."""
        return ()

    def check_choice(self, key: str, choices: Collection[str]) -> None:
        """Refuse a hyperparameter that is none of its choices; for :meth:`setup`.

        Raises:
            ConfigError: names the value, the choices and the nearest of them.
        """
        value = self.cfg[key]
        if value not in choices:
            near = did_you_mean(str(value), list(choices))
            raise ConfigError(f"{self.name}.{key}: {value!r} is none of {', '.join(choices)}{near}")

    @contextmanager
    def seeded(self, module: str) -> Iterator[None]:
        """Initialise what is built inside from (seed, method, module)."""
        with forked_seed("method", self.seed, self.name, module):
            yield

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        """Named, weighted 0-d loss terms; the trainer sums and logs them. ``teacher`` carries no gradient."""
        raise TypeError(f"{type(self).__name__} must define losses(student, teacher, batch)")

    def forward(self, student: nn.Module, teacher: Any, batch: Batch) -> Losses:
        """One step: run the student and return the loss terms.

        Args:
            student: the student's FeatureModel.
            teacher: the teacher's ModelOutput; its FeatureModel where ``needs_networks``; None without a teacher.
            batch: the batch.
        """
        return self.losses(run(student, batch, self.student_needs, self.looks), teacher, batch)

    def taught(self, teacher: Any, batch: Batch) -> Any:
        """What :meth:`forward` is given of a teacher for a batch, without gradient: its outputs, or the network itself where
        ``needs_networks``; None without one. For loops of one's own.

        Args:
            teacher: a FeatureModel, several in a list, or None.
            batch: the batch.
        """
        if teacher is None or not self.uses_teacher or self.needs_networks:
            return teacher if self.uses_teacher else None
        with torch.no_grad():
            every = teacher if isinstance(teacher, (list, tuple)) else [teacher]
            return joined([run(one, batch, self.teacher_needs, self.looks) for one in every])

    def vanishing(self, batch: int) -> Iterator[str]:
        """Terms of the loss that are constant with this configuration, number of classes and smallest batch, and why: a line
        each, which is shown before the training starts. Terms of weight 0 are not among them."""
        yield from ()

    def check_batch(self, size: int) -> None:
        """Refuse a batch that is too small for the loss, and warn of terms that are constant with it.

        Raises:
            IncompatibleError: fewer samples than ``min_batch``.
        """
        if size < self.min_batch:
            raise IncompatibleError(
                f"{self.name} compares the samples of a batch and needs at least {self.min_batch}; SOLVER.BATCH_SIZE gives {size}"
            )
        for line in self.vanishing(size):
            log.warning("%s: %s", self.name, line)

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """The run's criterion (``SOLVER.TASK_LOSS``), mean over the batch, of binary cross entropy over the classes, too; logits
        (B, K)."""
        return task_loss(
            *(logits, batch.target), kind=batch.task_loss, smoothing=batch.smoothing, threshold=batch.bce_threshold
        )

    def warmup(self, batch: Batch, epochs: float) -> float:
        """``min(epoch / epochs, 1)`` with epochs counted from 1, so that epoch ``epochs`` is at full strength; 1 for 0."""
        return min(batch.epoch / epochs, 1.0) if epochs > 0 else 1.0

    def extra_parameters(self) -> int:
        """Trained parameters besides those of the student that is deployed; all of them are dropped at export."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


distillers: Registry[type[Distiller]] = registry.distillers


def register_distiller(name: str, *, aliases: Sequence[str] = ()) -> Callable[[type[Distiller]], type[Distiller]]:
    """Class decorator: register a :class:`Distiller` under ``name``, checking its declarations.

    Args:
        name: of the method.
        aliases: further names, which configurations may use and lists do not show.

    Raises:
        TypeError: the class is no Distiller, or declares an output kind that does not exist, a domain that cannot be read, a name
            or a default that no configuration can hold.
    """

    def decorate(cls: type[Distiller]) -> type[Distiller]:
        if not (inspect.isclass(cls) and issubclass(cls, Distiller)):
            raise TypeError(f"@register_distiller({name!r}) decorates a subclass of kdbench.Distiller")
        check_declaration(name, cls)
        cls.name = name
        if not cls.__module__.startswith("kdbench."):
            distillers.load()  # a name of kdbench's own is taken, whoever comes first
        distillers.add(name, cls)
        for alias in aliases:
            distillers.add(alias, cls, hidden=True)
        return cls

    return decorate
