"""Several teachers of one student as one: each keeps its own network, gate and cache, and a method is given all their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from kdbench.config.teachers import AND
from kdbench.distillers.base import Batch, Distiller
from kdbench.distillers.batch import joined
from kdbench.engine.teacher.outputs import TeacherOutputs
from kdbench.engine.teacher.source import Channel, TeacherSource
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput, ModelSpec


class OutputsOfSeveral:
    """The first teacher's outputs, with those of the others in ``others``; each computed or stored by itself.

    Args:
        each: what gives the outputs of each.
    """

    def __init__(self, each: Sequence[TeacherOutputs]) -> None:
        self.each = list(each)

    @property
    def cache_use(self) -> str:
        """What the epoch does with the caches; where one is filled, it fills."""
        uses = {outputs.cache_use for outputs in self.each}
        return "fills" if "fills" in uses else "reads" if uses == {"reads"} else ""

    def __call__(self, batch: Batch) -> ModelOutput:
        """The outputs."""
        found: ModelOutput = joined([outputs(batch) for outputs in self.each])
        return found

    def start(self, epoch: int, *, whole: bool = True) -> None:
        """An epoch begins."""
        for outputs in self.each:
            outputs.start(epoch, whole=whole)

    def end(self) -> None:
        """It has ended."""
        for outputs in self.each:
            outputs.end()

    def leave(self) -> None:
        """It is given up before its end."""
        for outputs in self.each:
            outputs.leave()


class Teachers:
    """What a run asks of its teachers, whether there is one or several.

    Args:
        sources: each teacher, in the order of ``DISTILLER.TEACHERS``.
    """

    def __init__(self, sources: Sequence[TeacherSource]) -> None:
        self.sources = list(sources)

    @property
    def networks(self) -> list[FeatureModel]:
        """The live teachers, built at first use."""
        return [source.network for source in self.sources]

    @property
    def network(self) -> FeatureModel:
        """The only teacher's, for methods that run parts of it."""
        [source] = self.sources
        return source.network

    @property
    def specs(self) -> list[ModelSpec]:
        """Of each, see :attr:`TeacherSource.spec`."""
        return [source.spec for source in self.sources]

    def classifier(self) -> Any:
        """The only teacher's, see :meth:`TeacherSource.classifier`."""
        [source] = self.sources
        return source.classifier()

    def weights_sha256(self) -> str:
        """Of each, joined, see :meth:`TeacherSource.weights_sha256`."""
        return AND.join(source.weights_sha256() for source in self.sources)

    def check_method(self, method: Distiller) -> None:
        """See :meth:`TeacherSource.check_method`."""
        for source in self.sources:
            source.check_method(method)

    def live(self, needs: Sequence[AbstractSet[str]], looks: Sequence[Sequence[str]] = ()) -> TeacherOutputs:
        """See :meth:`TeacherSource.live`."""
        each = [source.live(needs, looks) for source in self.sources]
        return each[0] if len(each) == 1 else OutputsOfSeveral(each)

    def outputs_of(self, methods: Sequence[Distiller], owner: str) -> dict[str, Channel]:
        """See :meth:`TeacherSource.outputs_of`; the kind of a channel is the same with every teacher."""
        each = [source.outputs_of(methods, owner) for source in self.sources]
        if len(each) == 1:
            return each[0]
        return {
            kind: Channel(OutputsOfSeveral([channels[kind].outputs for channels in each]), channel.methods)
            for kind, channel in each[0].items()
        }
