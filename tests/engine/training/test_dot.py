"""``SOLVER.TRAINER: dot``: a momentum for the task's gradient and one for the distillation's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from fake_cuda import CUDA, fake, fake_cuda
from forked_ranks import forked
from interrupted_runs import assert_same, configure, run_killed
from safetensors.torch import load_file
from tiny_run import content, settings
from torch import nn

import kdbench
from kdbench import Distiller, register_distiller
from kdbench.bench.methods.conformance import create_pair, make_batch
from kdbench.bench.results.recipe import differences, recipe
from kdbench.config.load import to_dict
from kdbench.data.build import build_data
from kdbench.distillers.base import Batch, distillers
from kdbench.distillers.compose import Composed
from kdbench.engine.session.locate import locate
from kdbench.engine.training.captured import StepRunner
from kdbench.engine.training.graphs import Rerun
from kdbench.engine.training.ledger import Ledger
from kdbench.engine.training.optimiser.dot import DOT
from kdbench.engine.training.optimiser.optim import build_optimizer
from kdbench.engine.training.step import Step, TrainStep
from kdbench.errors import ConfigError, IncompatibleError, RunStoppedError

CPU = torch.device("cpu")
TAUGHT = {
    "DISTILLER.TYPE": "KD",
    "DISTILLER.TEACHER": "small_cnn",
    "TEACHER.NORM": "dataset",
    "TEACHER.FLOOR": 0.0,
}
DOT_ON = {"SOLVER.TRAINER": "dot"}


def steps(method: str, count: int, *, double: bool = True, scaler: bool = False, **extra) -> tuple[dict, Step]:
    """The state of student and method after some steps, and what took them."""
    student, teacher, distiller = create_pair(method, ("small_cnn", {}), ("small_mixer", {}))
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": method, "SOLVER.LR": 0.01, **extra})
    module = TrainStep(student, distiller)
    if double:
        module, teacher = module.double(), teacher.double()
    ledger = Ledger(CPU, skipping=cfg.SOLVER.NON_FINITE == "skip")
    step = Step(cfg, module, build_optimizer(cfg, module, CPU), ledger, CPU, 1)
    if scaler:
        step.scaler = torch.amp.GradScaler("cpu")
    ledger.start()
    for number in range(count):
        whole = make_batch(student, 8, first=8 * number % 20)
        images = whole.images.double() if double else whole.images
        batch = Batch(images, whole.target, whole.index, whole.draw, epoch=1, progress=0.5, seed=1)
        with torch.no_grad():
            given = teacher(batch.images, need=distiller.teacher_needs)
        step.gradients(given, batch, number, 1.0)
        step.update()
    return dict(module.state_dict()), step


def assert_close(one: dict, other: dict, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=rtol, atol=atol)


@pytest.mark.parametrize("decay_all", [True, False])
def test_with_delta_zero_it_is_sgd_where_both_losses_reach_every_parameter(decay_all):
    extra = {"SOLVER.DECAY_ALL": decay_all, "SOLVER.WEIGHT_DECAY": 0.05}
    plain, _ = steps("KD", 4, **extra)
    apart, step = steps("KD", 4, **DOT_ON, **{"SOLVER.DOT.DELTA": 0.0}, **extra)
    assert isinstance(step.optimizer, DOT)
    assert_close(plain, apart)
    other, _ = steps("KD", 4, **DOT_ON, **extra)
    assert any(not torch.allclose(other[key], value, rtol=1e-5) for key, value in plain.items())


def test_a_parameter_that_only_the_distillation_reaches_misses_its_first_decay_alone():
    extra = {"SOLVER.DOT.DELTA": 0.0, "SOLVER.WEIGHT_DECAY": 0.1}
    (plain, _), (apart, _) = steps("FITNET", 1, **extra), steps("FITNET", 1, **DOT_ON, **extra)
    start, _ = steps("FITNET", 0)
    own = [key for key, value in start.items() if key.startswith("distiller.") and value.is_floating_point()]
    trained = [key for key in own if not key.endswith(("running_mean", "running_var"))]
    assert trained
    for key in trained:
        torch.testing.assert_close(apart[key] - plain[key], 0.01 * 0.1 * start[key], rtol=1e-6, atol=1e-12)


def test_parts_of_a_batch_and_their_whole_agree():
    whole, _ = steps("KD", 4, **DOT_ON, **{"SOLVER.CLIP_GRAD": 0.1})
    parts, _ = steps("KD", 4, **DOT_ON, **{"SOLVER.CLIP_GRAD": 0.1, "SOLVER.ACCUMULATE": 3})
    assert_close(whole, parts)


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_scaled_gradients_are_those_without_a_scale(clip):
    """As with ``SOLVER.PRECISION: fp16`` on a GPU."""
    extra = {**DOT_ON, "SOLVER.CLIP_GRAD": clip}
    plain, _ = steps("KD", 3, double=False, **extra)
    scaled, step = steps("KD", 3, double=False, scaler=True, **extra)
    assert step.scaler.get_scale() == 65536.0
    assert_close(plain, scaled, rtol=1e-4, atol=1e-6)


def test_each_of_the_two_gradients_is_clipped():
    _, step = steps("KD", 1, **DOT_ON, **{"SOLVER.CLIP_GRAD": 0.01})
    for holders in zip(*step.dot.pairs):
        norm = torch.stack([holder.grad.norm() for holder in holders]).norm()
        assert float(norm) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("scaler", [True, False])
def test_a_gradient_of_either_part_that_is_not_finite_spoils_the_step(which, scaler):
    """With a scale it is found by that, else by ``SOLVER.NON_FINITE: skip``."""
    extra = {} if scaler else {"SOLVER.NON_FINITE": "skip"}
    before, step = steps("KD", 1, double=False, scaler=scaler, **DOT_ON, **extra)
    before = {key: value.clone() for key, value in before.items()}
    velocities = [step.optimizer.state[holder]["momentum_buffer"] for pair in step.dot.pairs for holder in pair]
    kept = [velocity.clone() for velocity in velocities]
    if step.skip is not None:
        step.skip.remember()
    next(step.dot.pairs)[which].grad.fill_(float("inf"))
    step.update()
    assert_close(dict(step.module.state_dict()), before, 0, 0)
    assert all(torch.equal(one, other) for one, other in zip(velocities, kept))
    assert (step.scaler.get_scale() == 32768.0) if scaler else (int(step.ledger.skipped) == 1)


@pytest.mark.parametrize("method", ["FITNET", "CRD", "TTM", "CRD+KD"])
def test_a_killed_run_ends_in_the_same_bits(tmp_path, method):
    extra = {**DOT_ON, "SOLVER.CLIP_GRAD": 1.0}
    whole = kdbench.train(configure(tmp_path / "whole", method, **extra))
    for step in (5, 12):
        run_killed(tmp_path / "killed", method, step, extra)
    again = kdbench.train(configure(tmp_path / "killed", method, **extra))
    assert again.run_id == whole.run_id
    assert_same(Path(whole.folder), Path(again.folder))


def test_a_run_that_is_stopped_within_an_epoch_keeps_both_velocities(tmp_path):
    extra = {**TAUGHT, **DOT_ON, "SOLVER.EMA": 0.5, "SOLVER.PRECISION": "bf16"}
    whole = kdbench.train(settings(tmp_path / "whole", 2, **extra))

    def stop(epoch, step, steps):
        if (epoch, step) == (2, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStoppedError):
        kdbench.train(settings(tmp_path / "parts", 2, **extra), progress=stop)
    assert content(kdbench.train(settings(tmp_path / "parts", 2, **extra)).folder) == content(whole.folder)


def test_members_of_a_cohort_may_have_other_trainers(tmp_path):
    def cfgs(folder):
        return [settings(folder, 2, **TAUGHT, **{"SOLVER.TRAINER": name}) for name in ("base", "dot")]

    together = kdbench.train_cohort(cfgs(tmp_path / "together"))
    alone = [kdbench.train(cfg) for cfg in cfgs(tmp_path / "alone")]
    assert [content(one.folder) for one in together] == [content(one.folder) for one in alone]
    assert content(alone[0].folder) != content(alone[1].folder)


@pytest.mark.parametrize("method", ["KD", "FITNET"])
def test_several_processes_average_both_gradients(tmp_path, method):
    """A student without batch normalisation, as two processes and as one; the last batch is uneven."""

    def cfg(folder: Path):
        data = {"DATASET.OPTIONS": {"size": 8, "train": 44, "test": 16, "num_classes": 4}}
        student = {"DISTILLER.STUDENT": "small_mixer", "DISTILLER.TYPE": method, "SOLVER.CLIP_GRAD": 0.5}
        return settings(folder, 2, **{**TAUGHT, **DOT_ON, **data, **student})

    ended = forked(tmp_path, lambda rank: kdbench.train(cfg(tmp_path / "two")) and 0)
    assert ended.codes == [0, 0], ended.texts
    (two,) = (tmp_path / "two").rglob("student.safetensors")
    one = Path(kdbench.train(cfg(tmp_path / "one")).folder) / "student.safetensors"
    assert_close(load_file(one), load_file(two), rtol=1e-4, atol=1e-5)


def test_several_processes_agree_on_parameters_without_gradients(tmp_path):
    def work(rank: int) -> int:
        import torch.distributed as dist

        dist.init_process_group("gloo", rank=rank, world_size=2)
        parameters = [nn.Parameter(torch.full((2,), 1.0)) for _ in range(3)]
        optimizer = DOT(parameters, lr=1.0, momentum=0.9, delta=0.05, weight_decay=0.0)
        if rank == 0:
            parameters[0].grad = torch.tensor([2.0, 4.0])
        optimizer.exchange()
        parameters[1].grad = torch.full((2,), float(rank))
        optimizer.average(2)
        twins = [twin for _, twin in optimizer.pairs]
        assert torch.equal(twins[0].grad, torch.tensor([1.0, 2.0]))
        assert torch.equal(parameters[1].grad, torch.tensor([0.5, 0.5]))
        assert all(holder.grad is None for holder in (parameters[0], parameters[2], twins[1], twins[2]))
        return 0

    ended = forked(tmp_path, work)
    assert ended.codes == [0, 0], ended.texts


def test_on_a_gpu_nothing_is_read_and_no_devices_are_mixed():
    with fake_cuda():
        parameters = [nn.Parameter(fake(2, 3)) for _ in range(3)]
        optimizer = DOT(parameters, lr=0.1, momentum=0.9, delta=0.05, weight_decay=0.1)
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            for distilled in (True, False):
                for parameter in parameters[distilled : 2 + distilled]:
                    parameter.grad = fake(2, 3)
                if distilled:
                    optimizer.exchange()
            optimizer.step()
        held = [optimizer.state.get(holder) for pair in optimizer.pairs for holder in pair]
        assert [None if state is None else state["momentum_buffer"].device for state in held] == [
            CUDA,
            None,
            CUDA,
            CUDA,
            None,
            CUDA,
        ]


def test_its_steps_are_in_no_graph():
    _, step = steps("KD", 0, **DOT_ON)
    assert StepRunner(step, Rerun).make is None
    _, step = steps("KD", 0)
    assert StepRunner(step, Rerun).make is Rerun


@pytest.mark.parametrize("task", [("ce",), ("kd", "ce"), ("kd",)])
def test_the_gradients_are_those_of_the_parts_that_a_method_declares(monkeypatch, task):
    """Of a composition, too, whose terms have the methods' names in front."""
    monkeypatch.setattr(distillers.get("KD"), "task_terms", task)
    names = [f"kd/{term}" for term in task] + ["fitnet/ce"]
    student, teacher, kd = create_pair("KD", ("small_cnn", {}), ("small_mixer", {}))
    composed = Composed({"KD": kd, "FITNET": create_pair("FITNET", ("small_cnn", {}), ("small_mixer", {}))[2]})
    assert composed.task_terms == tuple(names)
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "KD", **DOT_ON})
    module, batch = TrainStep(student, composed), make_batch(student, 8)
    with torch.no_grad():
        given = teacher(batch.images, need=composed.teacher_needs)
    step = Step(cfg, module, build_optimizer(cfg, module, CPU), Ledger(CPU), CPU, 1)
    step.gradients(given, batch, 0, 1.0)
    terms = composed(student, given, batch)
    for number, of_task in enumerate((True, False)):
        total = sum(term for name, term in terms.items() if (name in names) is of_task)
        expected = torch.autograd.grad(total, step.trained, retain_graph=True, allow_unused=True)
        for pair, gradient in zip(step.dot.pairs, expected):
            assert (pair[number].grad is None) is (gradient is None)
            if gradient is not None:
                torch.testing.assert_close(pair[number].grad, gradient)


@pytest.mark.parametrize("terms", ["ce", ["ce"], ("ce", 1)])
def test_a_declaration_is_a_tuple_of_names(terms):
    with pytest.raises(TypeError, match=r"task_terms is .*; expects a tuple of names of loss terms"):
        register_distiller("ODD_TERMS")(type("OddTerms", (Distiller,), {"task_terms": terms}))


@pytest.mark.parametrize("method", ["NONE", "KD"])
def test_a_loss_of_one_part_is_refused_before_a_folder_exists(tmp_path, monkeypatch, method):
    if method == "KD":
        monkeypatch.setattr(distillers.get("KD"), "task_terms", ("labels",))
    with pytest.raises(IncompatibleError) as caught:
        kdbench.train(settings(tmp_path, 1, **{**TAUGHT, **DOT_ON, "DISTILLER.TYPE": method}))
    which = "Vanilla are the task's (ce; " if method == "NONE" else "KD distil (ce, kd; "
    assert (
        f"SOLVER.TRAINER: dot keeps the gradients of task and distillation apart, and all loss terms of {which}"
        in str(caught.value)
    )
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"SOLVER.TYPE": "ADAMW"}, "SOLVER.TYPE: SOLVER.TRAINER: dot takes SGD, got ADAMW"),
        ({"SOLVER.NESTEROV": True}, "SOLVER.NESTEROV: SOLVER.TRAINER: dot takes False, got True"),
        ({"SOLVER.COMPILE": True}, "SOLVER.COMPILE: SOLVER.TRAINER: dot takes False, got True"),
        ({"SOLVER.DOT.DELTA": 0.1}, "SOLVER.DOT.DELTA: SOLVER.MOMENTUM=0.9 less and more 0.1 are two momenta"),
        ({"SOLVER.MOMENTUM": 0.0}, "SOLVER.DOT.DELTA: SOLVER.MOMENTUM=0.0 less and more 0.075 are two momenta"),
    ],
)
def test_what_it_does_not_go_with_is_refused(extra, said):
    with pytest.raises(ConfigError) as caught:
        settings("runs", 1, **TAUGHT, **DOT_ON, **extra)
    assert said in str(caught.value)
    settings("runs", 1, **TAUGHT, **extra)


def test_names_of_runs_and_recipes_know_it_only_where_it_is_used(tmp_path):
    def name(**extra):
        cfg = settings(tmp_path, 1, **TAUGHT, **extra)
        return locate(cfg, build_data(cfg)).folder.path.name

    plain = name()
    assert plain == name(**{"SOLVER.TRAINER": "crd"}) == name(**{"SOLVER.DOT.DELTA": 0.01})
    dot = name(**DOT_ON)
    assert dot == name(**{"SOLVER.TRAINER": "crd_dot"}) == name(**DOT_ON, **{"SOLVER.DOT.DELTA": 0.075})
    assert len({plain, dot, name(**DOT_ON, **{"SOLVER.DOT.DELTA": 0.05})}) == 3

    trees = [
        recipe(to_dict(settings(tmp_path, 1, **TAUGHT, **extra)))
        for extra in ({}, {"SOLVER.TRAINER": "crd", "SOLVER.DOT.DELTA": 0.01}, DOT_ON, {"SOLVER.TRAINER": "crd_dot"})
    ]
    assert trees[0] == trees[1]
    assert trees[2] == trees[3]
    assert "SOLVER.TRAINER dot (declared base)" in differences(trees[2], trees[0])
