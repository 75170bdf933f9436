"""Runs that share data, order, augmentation and teacher, in one process: one batch, one pass of the teacher, many students."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from yacs.config import CfgNode

from kdbench import stopping
from kdbench.config.cohort import check_together
from kdbench.data.malloc import tune_malloc
from kdbench.engine.result import RunResult
from kdbench.engine.runtime import deterministic_errors, start_runtime
from kdbench.engine.session.finish import finish
from kdbench.engine.session.prepare import Common, Prepared, prepare
from kdbench.engine.session.telling import Telling
from kdbench.engine.training.captured import graph_maker
from kdbench.engine.training.loop import Loop
from kdbench.engine.training.trainer import Trainer
from kdbench.errors import ConfigError, RunBusyError
from kdbench.processes.together import together

log = logging.getLogger(__name__)
Outcome = RunResult | Exception
#: ``fn(member, epoch, step, steps)`` after every step of a member, counted from 0
CohortProgress = Callable[[int, int, int, int], None]


def train_cohort(
    cfgs: Sequence[CfgNode],
    *,
    progress: CohortProgress | None = None,
    resume: bool = False,
    callbacks: Sequence[Sequence[object]] = (),
) -> list[Outcome]:
    """Train several students at once that see the same batches and the same teacher, each exactly as it would be trained alone.

    Each run keeps its own folder, identity, checkpoints and failure; it ends in the same bytes as its separate run. Runs that are
    done are not done again, and each other one goes on from its own checkpoint. Students for which there is no memory beside the
    others are trained after them.

    Args:
        cfgs: from :func:`kdbench.load_config`: one seed, data set, augmentation, batch size, number of epochs, precision and (but
            for methods without one) teacher; students, methods and learning rates may differ.
        progress: ``fn(member, epoch, step, steps)`` after every step; what it raises ends that member alone.
        resume: warn where there is no checkpoint to go on from.
        callbacks: for each configuration a list of objects, told how its run goes, see :class:`kdbench.Tracker`.

    Returns:
        For each configuration its result, or the error that ended its run.

    Raises:
        ConfigError: the configurations do not belong together, several processes run, or a callback is none.
    """
    check_together(cfgs)
    telling = Telling(cfgs, callbacks)
    tune_malloc()
    with stopping.watched(), together() as watch:
        runtime = start_runtime(cfgs[0])
        if runtime.world > 1 and len(cfgs) > 1:
            raise ConfigError(f"a cohort runs in one process, not in {runtime.world}; train its members one by one")
        common = Common(runtime)
        outcomes: dict[int, Outcome] = {}
        todo = list(range(len(cfgs)))
        with telling.ended(outcomes):
            while todo:
                todo = _wave(todo, cfgs, common, outcomes, progress, resume, telling)
        found = [_explained(outcomes[number]) for number in range(len(cfgs))]
        if watch is not None and isinstance(found[0], Exception):
            watch.fail(found[0])  # the other processes wait for this one
    return found


def _wave(
    todo: list[int],
    cfgs: Sequence[CfgNode],
    common: Common,
    outcomes: dict[int, Outcome],
    progress: CohortProgress | None,
    resume: bool,
    telling: Telling,
) -> list[int]:
    """Train as many as fit into memory together; returns the others."""
    ready: dict[int, Prepared] = {}
    for number in todo:
        try:
            found = prepare(cfgs[number], common, resume=resume)
            if isinstance(found, Prepared):
                ready[number] = found
            else:
                outcomes[number] = found
        except RunBusyError as error:
            twin = next((other for other, run in ready.items() if run.folder.path == error.args[1]), None)
            outcomes[number] = error
            if twin is not None:
                name = ready[twin].folder.path.name
                outcomes[number] = ConfigError(f"members {twin} and {number} of the cohort are the same run, {name}")
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others are trained
            outcomes[number] = error
    try:
        return _train(ready, common, outcomes, progress, telling) if ready else []
    finally:
        for run in ready.values():
            run.release()


def _train(
    ready: dict[int, Prepared],
    common: Common,
    outcomes: dict[int, Outcome],
    progress: CohortProgress | None,
    telling: Telling,
) -> list[int]:
    started = time.perf_counter()
    first = next(iter(ready.values()))
    make_graph = graph_maker(first.cfg, common.runtime)
    trainers = {
        number: Trainer(
            run,
            common.runtime,
            _own(progress, number),
            make_graph,
            others=len(ready) > 1,
            tracking=telling.of(number, main=common.runtime.is_main),
        )
        for number, run in ready.items()
    }
    loop = Loop(list(trainers.values()), first.loader, common.teacher, common.runtime, make_graph)
    loop.run()
    left = []
    for number, trainer in trainers.items():
        if trainer in loop.outside:
            left.append(number)
        elif trainer in loop.failed:
            outcomes[number] = loop.failed[trainer]
        else:
            try:
                outcomes[number] = finish(ready[number], trainer, common, time.perf_counter() - started)
            except Exception as error:  # noqa: BLE001 - the others are finished, too
                outcomes[number] = error
    return left


def _own(progress: CohortProgress | None, number: int) -> Callable[[int, int, int], None] | None:
    if progress is None:
        return None
    return lambda epoch, step, steps: progress(number, epoch, step, steps)


def _explained(outcome: Outcome) -> Outcome:
    """An error in kdbench's words, where it has some."""
    if isinstance(outcome, Exception):
        try:
            with deterministic_errors():
                raise outcome
        except Exception as error:  # noqa: BLE001
            return error
    return outcome
