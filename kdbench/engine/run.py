"""``train`` and ``evaluate``: one run from a configuration to a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.data.build import build_data
from kdbench.data.malloc import tune_malloc
from kdbench.engine.evaluation import Score, score
from kdbench.engine.identity.name import check_export, weights_identity
from kdbench.engine.identity.stored_options import with_stored_options
from kdbench.engine.parts import build_network, evaluation_options
from kdbench.engine.result import RunResult
from kdbench.engine.runtime import deterministic_errors, start_runtime
from kdbench.engine.session.agreement import check_agreement
from kdbench.engine.session.cohort import train_cohort
from kdbench.engine.session.handed import handed_over
from kdbench.engine.training.finite import check_score
from kdbench.engine.training.trainer import Progress
from kdbench.errors import ConfigError
from kdbench.processes.together import together


def train(
    cfg: CfgNode,
    *,
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
    data: Any = None,
    progress: Progress | None = None,
    resume: bool = False,
    callbacks: Sequence[object] = (),
) -> RunResult:
    """Train the configured student, or continue, or do nothing if that run is done.

    Objects take the place of the configuration's names. They stay as they are: what is trained is a copy, from the object's weights
    on, and its trained weights are ``student.safetensors`` in the result's folder. A run of objects is the same run, and goes on,
    where configuration, weights, structure, the code of their classes and the images are the same.

    Args:
        cfg: from :func:`kdbench.load_config`.
        student: a module that maps images to (B, K) logits (see :func:`kdbench.wrap_model`, which finds its stages here, too), or
            a :class:`kdbench.FeatureModel`.
        teacher: likewise.
        data: a :class:`kdbench.DataSource`, or torch data sets ``(train, test)`` or ``(train, test, val)``, see
            :func:`kdbench.data_from_datasets`.
        progress: ``fn(epoch, step, steps)`` after every step.
        resume: warn where there is no checkpoint to go on from; a run goes on from one in any case.
        callbacks: objects that are told how it goes, beside the trackers of ``LOG.TRACKERS``; see :class:`kdbench.Tracker`.

    Returns:
        The result, as ``result.json`` holds it.

    Raises:
        KdbenchError: whatever makes the run impossible, before anything is written.
    """
    own = None if progress is None else lambda _, epoch, step, steps: progress(epoch, step, steps)
    with handed_over(cfg, student=student, teacher=teacher, data=data) as named:
        (outcome,) = train_cohort([named], progress=own, resume=resume, callbacks=[list(callbacks)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@deterministic_errors()
def evaluate(cfg: CfgNode, weights: str = "", *, observe: Callable[[Tensor, Tensor], None] | None = None) -> Score:
    """Accuracy of the configured student with ``weights`` (or ``STUDENT.WEIGHTS``) on the test split.

    Args:
        cfg: from :func:`kdbench.load_config`.
        weights: a file.
        observe: is handed the logits (B, K) and labels (B,) of every batch of this process.

    Raises:
        ConfigError: no weights are named.
        ModelError: they cannot be read, or were changed since a run has exported them.
    """
    if weights:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.STUDENT.WEIGHTS = weights
        cfg.freeze()
    if not cfg.STUDENT.WEIGHTS:
        raise ConfigError("STUDENT.WEIGHTS is empty: name the weights to evaluate")
    tune_malloc()
    with together():
        check_export(cfg.STUDENT.WEIGHTS)
        runtime = start_runtime(cfg)
        data = build_data(cfg)
        cfg = with_stored_options(cfg, data, ["STUDENT"])
        check_agreement(
            cfg, data, {"student_sha256": weights_identity(cfg, "STUDENT", data)} if runtime.world > 1 else {}
        )
        student = build_network(cfg, "STUDENT", data).to(runtime.device)
        if student.fresh_head:
            raise ConfigError(
                f"STUDENT.HEAD: reset drops the classifier of {cfg.STUDENT.WEIGHTS!r}, and an accuracy of a fresh one means "
                "nothing; evaluate weights that hold a classifier for these classes"
            )
        found = score(student, data.test, runtime=runtime, observe=observe, **evaluation_options(cfg, data))
        where = f"the outputs of {cfg.DISTILLER.STUDENT!r} with weights {cfg.STUDENT.WEIGHTS!r}"
        check_score(found, where, "are the weights damaged, or STUDENT.NORM wrong?")
    return found
