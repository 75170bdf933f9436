"""From a configuration to what is trained; whatever is wrong is found here, before a folder exists."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from kdbench.config.teachers import AND, each_teacher
from kdbench.data.build import build_data
from kdbench.data.loader import TrainLoader
from kdbench.data.source import DataSource
from kdbench.engine.identity.canonical import canonical
from kdbench.engine.identity.code import code_of
from kdbench.engine.identity.inputs import Inputs
from kdbench.engine.identity.stored_options import with_stored_options
from kdbench.engine.parts import build_distiller, build_network, make_loader
from kdbench.engine.result import RunResult
from kdbench.engine.runtime import Runtime
from kdbench.engine.session.adapted import adapted
from kdbench.engine.session.agreement import check_agreement
from kdbench.engine.session.announce import opening
from kdbench.engine.session.checked.parts import check_parts
from kdbench.engine.session.checked.phases import check_phases
from kdbench.engine.session.checked.single import check_single
from kdbench.engine.session.checked.task_loss import check_task_loss
from kdbench.engine.session.checked.terms import check_terms_of_both
from kdbench.engine.session.holding import Holding
from kdbench.engine.session.locate import finished, locate, roles_of, surroundings
from kdbench.engine.session.pretrain import pretrain
from kdbench.engine.teacher.gate import check_gate
from kdbench.engine.teacher.several import Teachers
from kdbench.engine.teacher.source import TeacherSource
from kdbench.engine.training.saving.selection import check_selection
from kdbench.engine.training.tracking.choose import check_trackers
from kdbench.engine.training.trainer import Parts
from kdbench.errors import ConfigError, KdbenchError

log = logging.getLogger(__name__)


class Common:
    """What the runs of one process share, made when it is first needed.

    Args:
        runtime: device and processes.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._data: DataSource | None = None
        self._loader: TrainLoader | None = None
        #: of those that learn from one; made by the first of them
        self.teacher: Teachers | None = None
        self.teacher_top1: float | None = None

    def data(self, cfg: CfgNode) -> DataSource:
        """The data set."""
        if self._data is None:
            self._data = build_data(cfg)
        return self._data

    def loader(self, cfg: CfgNode) -> TrainLoader:
        """The training loader."""
        if self._loader is None:
            self._loader = make_loader(cfg, self.data(cfg), self.runtime)
        return self._loader

    def teacher_of(self, cfg: CfgNode, sha256: str) -> Teachers:
        """The teacher, or all of several."""
        if self.teacher is None:
            shared = self.data(cfg), self.loader(cfg), self.runtime
            each = zip(each_teacher(cfg), sha256.split(AND))
            self.teacher = Teachers([TeacherSource(one, *shared, own) for one, own in each])
        return self.teacher

    def judged(self, cfg: CfgNode) -> float:
        """The teacher's top-1; of several, that of the best.

        Raises:
            KdbenchError: one is not fit to teach.
        """
        assert self.teacher is not None
        if self.teacher_top1 is None:
            found = []
            for source in self.teacher.sources:
                judgement = source.judge()
                log.info("teacher %s: top-1 %.2f (%s)", source.cfg.DISTILLER.TEACHER, judgement.top1, judgement.how)
                check_gate(source.cfg, self.data(cfg), judgement, source.try_settings)
                source.remember(judgement)
                found.append(judgement.top1)
            self.teacher_top1 = max(found)
        return self.teacher_top1


@dataclass
class Prepared(Parts):
    """A run that can begin: what is trained, and what its result will say of where it came from."""

    inputs: Inputs
    hashes: dict[str, str]
    teacher_top1: float | None
    holding: Holding | None = None

    def begin(self) -> RunResult | KdbenchError | None:
        """Take the folder and write what the run is; its result, where another process has finished it since we looked, or the
        error why it cannot begin."""
        try:
            self.holding = Holding(self.folder)
            if self.folder.done:
                self.release()
                return RunResult.read(self.folder)
            self.folder.create(self.cfg)
            self.inputs.record(self.folder)
        except KdbenchError as error:
            self.release()
            return error
        return None

    def release(self) -> None:
        """Let other processes have the run."""
        if self.holding is not None:
            self.holding.release()


def prepare(cfg: CfgNode, common: Common, *, resume: bool = False) -> Prepared | RunResult:
    """Everything before the first step; the result of a run that is done.

    Args:
        cfg: configuration.
        common: what is shared.
        resume: warn where there is no checkpoint to go on from.

    Raises:
        KdbenchError: whatever makes the run impossible; nothing was written.
    """
    if not cfg.DISTILLER.STUDENT:
        raise ConfigError("DISTILLER.STUDENT is empty: name a student")
    cfg, runtime = canonical(cfg), common.runtime
    data = common.data(cfg)
    cfg = with_stored_options(cfg, data, roles_of(cfg))
    code = code_of(cfg)
    folder, hashes, plain = locate(cfg, data, code, runtime.world)
    check_agreement(
        cfg, data, {**hashes, "the code of the method": code.digest, "the folder of the runs": str(folder.path.parent)}
    )
    inputs = Inputs(data, code, plain, surroundings(cfg, code, runtime), Path(cfg.LOG.PREFIX))
    done = runtime.from_main(finished(folder, inputs) if runtime.is_main else None)
    if isinstance(done, KdbenchError):
        raise done
    if done is not None:
        log.info("%s is done already", folder.path.name)
        return done
    folder.check_place()
    check_trackers(cfg)
    check_selection(cfg, data)
    student = build_network(cfg, "STUDENT", data, seed=cfg.EXPERIMENT.SEED)
    loader = common.loader(cfg)
    teacher = common.teacher_of(cfg, hashes["teacher_sha256"]) if "TEACHER" in roles_of(cfg) else None
    distiller = build_distiller(cfg, student, teacher.specs if teacher is not None else None, data, runtime.world)
    student = adapted(cfg, student, distiller, teacher)
    loader.show(distiller.looks)
    check_phases(distiller, runtime.world)
    smallest = check_parts(cfg, student, distiller, loader, runtime.world)
    distiller.check_batch(smallest)
    check_single(student, distiller, teacher, loader, smallest)
    check_task_loss(cfg, student, distiller, teacher, loader)
    check_terms_of_both(cfg, student, distiller, teacher, loader)
    if teacher is not None:
        teacher.check_method(distiller)
    teacher_top1 = None if teacher is None else common.judged(cfg)
    if resume and runtime.is_main and not folder.checkpoint.is_file():
        log.warning(
            "--resume: %s has no checkpoint; it starts at epoch 1 (another key or seed is another run)", folder.path
        )
    run = Prepared(cfg, data, loader, student, distiller, folder, inputs, hashes, teacher_top1)
    found = runtime.from_main(run.begin() if runtime.is_main else None)
    if isinstance(found, KdbenchError):
        raise found
    if found is not None:
        return found
    if runtime.is_main:
        log.info("%s", opening(cfg, data, student, teacher, folder, runtime))
    try:
        pretrain(run, teacher, runtime, code.brought)
    except BaseException:
        run.release()
        raise
    return run
