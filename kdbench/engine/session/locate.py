"""A run's folder and identity, and whether the run is done."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode

from kdbench.config.teachers import AND, each_teacher, teacher_name
from kdbench.data.build import build_data
from kdbench.data.source import DataSource
from kdbench.distillers.create import uses_teacher
from kdbench.engine.identity.canonical import canonical
from kdbench.engine.identity.code import Code, code_of
from kdbench.engine.identity.inputs import Inputs
from kdbench.engine.identity.name import identity, run_name, weights_identity
from kdbench.engine.identity.stored_options import with_marks, with_stored_options
from kdbench.engine.identity.teacher_records import teacher_identity
from kdbench.engine.result import RunResult
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.runtime import Runtime, environment
from kdbench.errors import KdbenchError

log = logging.getLogger(__name__)


class Located(NamedTuple):
    """A run's folder, the hashes that stand for the weights that it starts from, and its identity without the user's code."""

    folder: RunFolder
    hashes: dict[str, str]
    plain: str


def locate(cfg: CfgNode, data: DataSource, code: Code | None = None, processes: int = 1) -> Located:
    """Where a run lies, and what it is.

    Args:
        cfg: configuration.
        data: its data set.
        code: what defines it; None finds out.
        processes: of the run.
    """
    cfg = canonical(cfg)
    cfg = with_stored_options(cfg, data, roles_of(cfg))
    code = code or code_of(cfg)
    taught = "TEACHER" in roles_of(cfg)
    hashes = {
        "teacher_sha256": AND.join(teacher_identity(one, data) for one in each_teacher(cfg)) if taught else "",
        "student_sha256": weights_identity(cfg, "STUDENT", data),
    }
    marked = with_marks(cfg, data, roles_of(cfg), hashes)
    plain = identity(cfg, data, marked, world=processes)
    digest = identity(cfg, data, marked, code=code.brought, world=processes)
    return Located(RunFolder(Path(cfg.LOG.PREFIX) / cfg.EXPERIMENT.NAME / run_name(cfg, digest)), hashes, plain)


def roles_of(cfg: CfgNode) -> list[str]:
    """The networks that a run uses."""
    taught = uses_teacher(cfg.DISTILLER.TYPE) and teacher_name(cfg)
    return ["TEACHER", "STUDENT"] if taught else ["STUDENT"]


def surroundings(cfg: CfgNode, code: Code, runtime: Runtime) -> dict[str, Any]:
    """What a result depends on besides its configuration, for the record: versions, machine, and kdbench's code of the method."""
    return {**environment(runtime), "compile": bool(cfg.SOLVER.COMPILE), "code": code.digest}


def read_finished(cfg: CfgNode, processes: int = 1) -> RunResult | None:
    """The result of the run of a configuration if it is done, else None; trains nothing."""
    folder = locate(cfg, build_data(cfg), processes=processes).folder
    return RunResult.read(folder) if folder.done else None


def finished(folder: RunFolder, inputs: Inputs) -> RunResult | KdbenchError | None:
    """The result of a run that is done, or why it can be neither used nor gone on with. One of which the result, the student or
    the metrics are not what was written is set aside, and the run goes on from its checkpoint."""
    try:
        inputs.check(folder)
    except KdbenchError as error:
        return error
    if not folder.result.is_file():
        changed = inputs.predecessor(folder) if not folder.path.exists() else ""
        if changed:
            log.info("%s; this is a new run, %s", changed, folder.path.name)
        return None
    reason = folder.missing()
    if not reason:
        try:
            result = RunResult.read(folder)
        except (OSError, ValueError) as error:
            reason = f"{folder.result} cannot be read ({error})"
        else:
            reason = result.damage(folder, student=True)
            if not reason:
                return result
    log.warning("%s; %s is renamed to *.damaged, and the run goes on", reason, folder.result.name)
    folder.set_aside()
    return None
