"""The one training loop: batches and the teacher's outputs, made once for all students that learn from them."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from yacs.config import CfgNode

from kdbench import stopping
from kdbench.data.loader import LoadedBatch, TrainLoader
from kdbench.distillers.base import Batch
from kdbench.engine.precision import products
from kdbench.engine.runtime import Runtime
from kdbench.engine.teacher.several import Teachers
from kdbench.engine.training.captured import MakeGraph, OutputsRunner
from kdbench.engine.training.finite import explainer
from kdbench.engine.training.graphs import Fixed
from kdbench.engine.training.phases import drawn_as, in_words
from kdbench.engine.training.saving.moments import Moments
from kdbench.engine.training.together.clock import Clock
from kdbench.engine.training.together.room import Room
from kdbench.engine.training.trainer import Explain, Trainer
from kdbench.errors import RunStoppedError

log = logging.getLogger(__name__)
#: where outputs come from in a first phase
_PHASE = "phase"


class Loop:
    """Trains several students that see the same batches, each exactly as it would be trained alone.

    A batch is loaded once, the teacher is asked once for all that any of them needs, then each takes its step. On a GPU every
    student has a stream of its own, so that small networks fill the device together. A student that fails leaves the others going;
    one that was resumed from a later epoch joins in there.

    Args:
        members: the students, new or resumed by :meth:`run`.
        loader: gives the batches.
        teacher: of those that learn from one; None without.
        runtime: device and processes.
        make_graph: makes the graphs of captured steps; None runs all steps one by one.
    """

    def __init__(
        self,
        members: Sequence[Trainer],
        loader: TrainLoader,
        teacher: Teachers | None,
        runtime: Runtime,
        make_graph: MakeGraph | None = None,
    ) -> None:
        self.loader, self.teacher, self.runtime, self.make_graph = loader, teacher, runtime, make_graph
        self.cfg: CfgNode = members[0].cfg
        self.members = list(members)
        #: what became of those that did not finish
        self.failed: dict[Trainer, Exception] = {}
        #: those for which there was no room; nothing of them was kept
        self.outside: list[Trainer] = []
        taught = {m: m.distiller for m in members if teacher is not None and m.distiller.uses_teacher}
        owner = members[0].folder.path.name
        sources = {} if teacher is None else teacher.outputs_of(list(taught.values()), owner)
        #: where the outputs of each member come from, and each such place once
        self.channel = {m: next(kind for kind, s in sources.items() if d in s.methods) for m, d in taught.items()}
        self.sources = {kind: source.outputs for kind, source in sources.items()}
        self.runners = {
            kind: OutputsRunner(outputs, make_graph if kind != "network" else None, computed=kind == "live")
            for kind, outputs in self.sources.items()
        }
        #: teachers of their own for methods from outside kdbench that run parts of one, beside others
        self.networks = {
            m: copy.deepcopy(teacher.network)
            for m, kind in self.channel.items()
            if kind == "network" and m.step.apart and teacher is not None
        }
        wanted = [m.phase for m in members if m.phase is not None]
        #: the teacher's outputs in the epochs before the first
        self.of_phase = teacher.live([p.teacher_needs for p in wanted], [p.looks for p in wanted]) if teacher else None
        on_streams = make_graph is not None and runtime.device.type == "cuda"
        self.streams = {m: torch.cuda.Stream(runtime.device) for m in members} if on_streams else {}
        self._inputs = Fixed()
        self.moments = Moments(self.cfg.SOLVER.CHECKPOINT_EVERY, runtime)

    def run(self) -> None:
        """Train them to their last epochs, or to those behind which they stop; see :attr:`failed` and :attr:`outside`."""
        room = Room(self.runtime.device) if len(self.members) > 1 else None
        for member in list(self.members):
            with self._attempt(member):
                member.resume()
        first = min((m.first_epoch for m in self.members), default=1)
        for epoch in range(first, self.cfg.SOLVER.EPOCHS + 1):
            going = [m for m in self.members if not m.stopped]
            there = [m for m in going if m.first_epoch <= epoch]
            if there:
                used: set[str] = set()  # sources of which the epoch has begun and not ended
                with self._attempt(*going):
                    self._epoch(epoch, there, room, used)
                for kind in used:
                    self.sources[kind].leave()
        self.moments.close()

    def _epoch(self, epoch: int, there: list[Trainer], room: Room | None, used: set[str]) -> None:
        for member in there:
            member.begin(epoch)
        first = min(member.starts(epoch) for member in there)
        for kind in {self.channel[m] for m in there if m in self.channel and epoch > 0}:
            self.sources[kind].start(epoch, whole=first == 0)
            used.add(kind)
        self.moments.begin()
        clock = Clock(there, alone=len(there) == 1 or self.runtime.device.type == "cuda")
        with products(self.cfg.SOLVER.PRECISION, self.runtime.device), self.runtime.steps() as steps:
            for step, loaded in enumerate(self.loader.epoch(drawn_as(epoch), first), first):
                steps.next()
                clock.waited()
                present = [m for m in there if m.starts(epoch) <= step]
                newcomers = {m for m in present if m.first_epoch == epoch and m.first_step == step}
                batch, fixed = self._batch(loaded, epoch, step)
                given = self._given(batch, present, fixed, epoch)
                clock.asked()
                self._steps(present, batch, given, epoch, step, fixed, clock, newcomers, room)
                there = [m for m in there if m in self.members]
                if not there:
                    return
                clock.mark()
                save, stop = self.moments.after_step(step)
                last = step + 1 == len(self.loader)  # the epoch's own checkpoint comes after its evaluation
                if stop or (save and not last):
                    steps.rest()
                    self._pause(epoch, step, [m for m in present if m in self.members], clock, stop=stop)
        clock.stop()
        while used:
            self.sources[used.pop()].end()
        for member in there:
            with self._attempt(member):
                member.end(epoch, self._timing(member, clock, epoch), self._explain(member, epoch))

    def _timing(self, member: Trainer, clock: Clock, epoch: int) -> dict[str, Any]:
        """Of an epoch of a member; ``cache`` where its teacher's outputs were read from disk, or stored there."""
        if epoch < 1:
            return clock.timing(member, True)
        use = self.sources[self.channel[member]].cache_use if member in self.channel else ""
        return clock.timing(member, member in self.channel) | ({"cache": use} if use else {})

    def _pause(self, epoch: int, step: int, present: list[Trainer], clock: Clock, *, stop: bool) -> None:
        """Save between two steps; with ``stop`` that is all.

        Raises:
            RunStoppedError: everybody is saved.
        """
        clock.stop()
        for member in present:
            with self._attempt(member):
                member.check(epoch, self._explain(member, epoch))
                member.save(epoch, step + 1, self._timing(member, clock, epoch))
        if stop:
            self.moments.close()
            stopping.check(f"after step {step + 1} of {len(self.loader)} in {in_words(epoch)}, which is saved")
            raise RunStoppedError(
                f"another process was stopped in {in_words(epoch)}, after step {step + 1}; the same command goes on"
            )
        clock.mark()

    def _steps(
        self,
        there: list[Trainer],
        batch: Batch,
        given: dict[str, Any],
        epoch: int,
        step: int,
        fixed: bool,
        clock: Clock,
        newcomers: set[Trainer],
        room: Room | None,
    ) -> None:
        """Every member's step."""
        for member in there:
            if room is not None and member in newcomers and not room.fits():
                self._put_off(member)
                continue
            measured = room.measured() if room is not None and member in newcomers else contextlib.nullcontext()
            kind = self.channel.get(member, "") if epoch > 0 else _PHASE
            settled = fixed and (kind in ("", "network", _PHASE) or self.runners[kind].settled)
            solver = member.cfg.SOLVER
            criterion: dict[str, Any] = {
                "smoothing": batch.smoothing and solver.LABEL_SMOOTHING,
                "task_loss": solver.TASK_LOSS,
                "bce_threshold": solver.BCE_TARGET_THRESH,
            }
            own = self.networks.get(member, given.get(kind)) if epoch > 0 else given[_PHASE]
            first = bool(newcomers) and member is not there[0]
            with self._attempt(member, first=first), self._stream(member), measured:
                explain = self._explain(member, epoch)
                member.take(replace(batch, **criterion), own, step, explain, epoch=epoch, fixed=settled)
            clock.took(member)
        for member in there:
            if member in self.streams:
                torch.cuda.current_stream().wait_stream(self.streams[member])

    def _batch(self, loaded: LoadedBatch, epoch: int, step: int) -> tuple[Batch, bool]:
        """A step's batch, and whether it lies where it has always lain. Its smoothing is 1 where each member's own holds."""
        if self.cfg.SOLVER.CHANNELS_LAST:
            loaded.images, *looks = (
                images.contiguous(memory_format=torch.channels_last)
                for images in (loaded.images, *loaded.looks.values())
            )
            loaded.looks = dict(zip(loaded.looks, looks))
        tensors = loaded.on_device()
        if self.make_graph is not None:
            # not the host's draws: what is stored some steps later is looked up by them
            tensors = self._inputs.put(tensors)
        images, target, index, draw, *further = tensors
        batch = Batch(
            images,
            target,
            index,
            draw,
            epoch=drawn_as(epoch),
            progress=max(0.0, (epoch - 1 + step / len(self.loader)) / self.cfg.SOLVER.EPOCHS),
            seed=self.cfg.EXPERIMENT.SEED,
            smoothing=0.0 if loaded.smoothing_included else 1.0,
            host_draw=loaded.host_draw,
            looks=dict(zip(loaded.looks, further)),
        )
        return batch, self._inputs.holds(tensors)

    def _given(self, batch: Batch, there: list[Trainer], fixed: bool, epoch: int) -> dict[str, Any]:
        if epoch < 1:
            assert self.of_phase is not None
            return {_PHASE: self.of_phase(batch)}
        return {kind: self.runners[kind](batch, fixed=fixed) for kind in {self.channel.get(m) for m in there} if kind}

    def _stream(self, member: Trainer) -> contextlib.AbstractContextManager[Any]:
        """The member's own stream, behind what was done for all."""
        if member not in self.streams:
            return contextlib.nullcontext()
        self.streams[member].wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(self.streams[member])

    @contextlib.contextmanager
    def _attempt(self, *members: Trainer, first: bool = False) -> Iterator[None]:
        """Note an error as that of these members, who take no further part."""
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            for member in members:
                if first:  # alone it may fit
                    self._put_off(member)
                else:
                    self._fail(member, error)
        except Exception as error:  # noqa: BLE001 - whatever ends one student, the others go on
            for member in members:
                self._fail(member, error)

    def _fail(self, member: Trainer, error: Exception) -> None:
        if member in self.members:
            self.failed[member] = error
            self.members.remove(member)

    def _put_off(self, member: Trainer) -> None:
        log.info("%s waits until there is memory for it", member.folder.path.name)
        self.outside.append(member)
        self.members.remove(member)

    def _explain(self, member: Trainer, epoch: int) -> Explain:
        """Makes the error of a step that was not finite."""
        teacher = self.teacher if member in self.channel or epoch < 1 else None
        asks = member.distiller if epoch > 0 or member.phase is None else member.phase
        where = f"{member.distiller.name} is not finite in {in_words(epoch)}"
        return explainer(self.loader, asks, teacher, drawn_as(epoch), where)
