"""Several methods on one student: ``DISTILLER.TYPE: "CRD+KD"``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, distillers
from kdbench.distillers.phase import Phase
from kdbench.errors import ConfigError, IncompatibleError
from kdbench.models.spec import ModelOutput, ModelSpec

_CE = "ce"


class Composed(Distiller):
    """The sum of several methods' terms, named ``<method>/<term>`` in small letters.

    The student runs once with the union of what the parts need, and so does the teacher. Every part keeps its own
    configuration node, modules and cross entropy, so that the cross entropies add up; ``ce_weights`` scales them part
    by part (0 leaves one out), ``weights`` scales a part's other terms. At most one part may run inside the networks.

    Args:
        parts: the methods by name, built.
        weights: factor of a part's terms other than its cross entropy, by name; 1 where it is not named.
        ce_weights: factor of a part's cross entropy, by name; 1 where it is not named.

    Raises:
        ConfigError: fewer than two parts, or a weight for a part that does not exist.
        IncompatibleError: two parts run inside the networks, or one beside a part that sees each image more than once; two begin
            with a phase of their own; or one changes the student.
    """

    def __init__(
        self,
        parts: Mapping[str, Distiller],
        *,
        weights: Mapping[str, float] | None = None,
        ce_weights: Mapping[str, float] | None = None,
    ) -> None:
        nn.Module.__init__(self)
        if len(parts) < 2:
            raise ConfigError(f"a composition takes at least two methods, got {list(parts)}")
        inside = [name for name, part in parts.items() if part.needs_networks]
        if len(inside) > 1:
            raise IncompatibleError(f"{' and '.join(inside)} both run inside the networks and cannot be composed")
        adapting = [name for name, part in parts.items() if part.adapts_student]
        if adapting:
            raise IncompatibleError(f"{adapting[0]} changes the student's network and cannot be composed")
        first = [name for name, part in parts.items() if any(not phase.on_teacher for phase in part.phases())]
        if len(first) > 1:
            raise IncompatibleError(
                f"{' and '.join(first)} both begin with a phase of their own and cannot be composed"
            )
        self.weights = _by_part(parts, weights, "weight")
        self.ce_weights = _by_part(parts, ce_weights, "CE weight")
        every = list(parts.values())
        # The part that runs the networks itself comes first: the others read the outputs that it has seen.
        order = sorted(parts, key=lambda name: not parts[name].needs_networks)
        self.parts = nn.ModuleDict({name: parts[name] for name in order})
        self.name = "+".join(parts)
        self.student_spec, self.data, self.seed = every[0].student_spec, every[0].data, every[0].seed
        taught = next((part for part in every if part._teacher_spec is not None), every[0])
        self._teacher_spec, self.teacher_specs = taught._teacher_spec, taught.teacher_specs
        self.student_needs = set().union(*(part.student_needs for part in every))
        self.teacher_needs = set().union(*(part.teacher_needs for part in every if part.uses_teacher))
        self.looks = tuple(dict.fromkeys(look for part in every for look in part.looks))
        if self.looks and inside:
            raise IncompatibleError(
                f"{inside[0]} runs inside the networks and cannot be composed with a method that sees each image more than once"
            )
        self.uses_teacher = any(part.uses_teacher for part in every)
        self.needs_networks = bool(inside)
        self.needs_labels = any(part.needs_labels for part in every)
        self.grad_teacher = any(part.grad_teacher for part in every)
        self.task_terms = tuple(f"{name.lower()}/{term}" for name, part in parts.items() for term in part.task_terms)
        self.batch_coupled = any(part.batch_coupled for part in every)
        self.unused_parameters = any(part.unused_parameters for part in every)
        self.capturable = all(part.capturable for part in every)
        self.min_batch = max(part.min_batch for part in every)
        self.reference = "; ".join(part.reference for part in every)
        self.verified = "; ".join(f"{name}: {part.verified}" for name, part in parts.items())

    def vanishing(self, batch: int) -> Iterator[str]:
        for name, part in self._parts():
            if self.weights[name] > 0:
                yield from (f"{name}: {line}" for line in part.vanishing(batch))

    def phases(self) -> Sequence[Phase]:
        return [phase for _, part in self._parts() for phase in part.phases()]

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        terms: Losses = {}
        for name, part in self._parts():
            self._add(terms, name, part.losses(student, teacher, batch))
        return terms

    def forward(self, student: nn.Module, teacher: Any, batch: Batch) -> Losses:
        if not self.needs_networks:
            return super().forward(student, teacher, batch)
        (name, inside), *others = self._parts()
        seen_student = _Recorder(student, self.student_needs)
        seen_teacher = _Recorder(teacher, self.teacher_needs)
        terms: Losses = {}
        self._add(terms, name, inside(seen_student, seen_teacher, batch))
        teacher_output = seen_teacher.output.detach() if seen_teacher.output is not None else None
        if teacher_output is None:
            with torch.no_grad():
                teacher_output = teacher(batch.images, need=self.teacher_needs)
        student_output = seen_student.output
        if student_output is None:
            raise TypeError(f"{name} did not run the student as a whole, so the other parts have no output of it")
        for name, part in others:
            self._add(terms, name, part.losses(student_output, teacher_output, batch))
        return terms

    def _parts(self) -> list[tuple[str, Distiller]]:
        return [(name, part) for name, part in self.parts.items() if isinstance(part, Distiller)]

    def _add(self, terms: Losses, name: str, losses: Mapping[str, Tensor]) -> None:
        for term, value in losses.items():
            weight = self.ce_weights[name] if term == _CE else self.weights[name]
            terms[f"{name.lower()}/{term}"] = weight * value


def compose(
    names: Sequence[str],
    student: ModelSpec,
    teacher: ModelSpec | Sequence[ModelSpec] | None,
    nodes: Mapping[str, CfgNode],
    data: DataInfo,
    *,
    weights: Mapping[str, float] | None = None,
    ce_weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Composed:
    """Build the methods and put them together.

    Args:
        names: registered names, two or more, each once.
        student, teacher: the networks' specs; of several teachers a list.
        nodes: each method's configuration node by registered name.
        data: what is known of the training set.
        weights, ce_weights: see :class:`Composed`.
        seed: the run's seed; a part's modules start as they do when it is used alone.

    Raises:
        UnknownNameError: no method has that name.
        ConfigError: a name stands twice, or one is alone.
        IncompatibleError: a part is undefined for the pair or changes the student, or two parts run inside the networks.
    """
    canonical = [distillers.canonical(name) for name in names]
    if len(set(canonical)) != len(canonical):
        raise ConfigError(f"a method can be part of a composition once, got {'+'.join(names)}")
    parts = {name: distillers.get(name)(student, teacher, nodes[name], data, seed=seed) for name in canonical}
    return Composed(parts, weights=weights, ce_weights=ce_weights)


class _Recorder:
    """A network that gives more than it is asked for, and keeps the output of its first whole pass."""

    def __init__(self, network: Any, needs: AbstractSet[str]) -> None:
        self._network, self._needs = network, needs
        self.output: ModelOutput | None = None

    def __call__(self, images: Tensor, need: set[str]) -> ModelOutput:
        output = self._network(images, need=set(need) | self._needs)
        if self.output is None:
            self.output = output
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def _by_part(parts: Mapping[str, Distiller], given: Mapping[str, float] | None, what: str) -> dict[str, float]:
    unknown = sorted(set(given or ()) - set(parts))
    if unknown:
        raise ConfigError(f"a {what} is given for {', '.join(unknown)}; the parts are {', '.join(parts)}")
    return {name: 1.0 if given is None else float(given.get(name, 1.0)) for name in parts}
