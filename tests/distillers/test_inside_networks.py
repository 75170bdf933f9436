"""PAT and FCFD, which run inside the networks, and compositions."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from method_fixtures import (
    INSIDE,
    METHODS,
    FakeNetwork,
    build,
    config,
    data_info,
    frozen,
    make_batch,
    make_spec,
    random_output,
    total,
)
from torch import nn

from kdbench.distillers.base import Batch
from kdbench.distillers.compose import compose
from kdbench.distillers.fcfd import fcfd_loss
from kdbench.distillers.kd import kd_loss
from kdbench.distillers.pat import PAT
from kdbench.errors import ConfigError, IncompatibleError, UnknownNameError


def networks(student: str, teacher: str) -> tuple[FakeNetwork, FakeNetwork]:
    return FakeNetwork(make_spec(student), seed=1), frozen(FakeNetwork(make_spec(teacher, width=32), seed=2))


def pat(student: str, teacher: str) -> PAT:
    method = build("PAT", make_spec(student), make_spec(teacher, width=32)).double()
    assert isinstance(method, PAT)
    return method


@pytest.mark.parametrize("teacher", ["cnn4", "vit4", "mixer4"])
def test_pat_at_beta_zero_leaves_the_teacher_as_it_is(teacher: str) -> None:
    """What the release's scrambled tokens and misplaced class token broke."""
    method, batch = pat("cnn4", teacher), make_batch()
    student, network = networks("cnn4", teacher)
    plain = network(batch.images, need={"logits", "stages"})
    for _ in range(2):  # without feedback and with it
        maps, logits = method._prompted_teacher(network, batch.images)
        torch.testing.assert_close(logits, plain.logits, rtol=0, atol=0)
        for ours, theirs in zip(maps, plain.stages, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        assert method(student, network, batch)["reg"].abs() < 1e-12


def test_pat_prompts_are_as_released() -> None:
    """The fusing 5x5 convolution is a full one, the prompting one depthwise."""
    fuse, prompt = pat("cnn4", "vit4").prompts[0].fuse, pat("cnn4", "vit4").prompts[0].prompt
    width = make_spec("vit4", width=32).stem.channels
    assert [fuse[i].weight.shape for i in (0, 1)] == [(width, 2 * width, 1, 1), (width, width, 5, 5)]
    assert [prompt[i].weight.shape for i in (0, 1)] == [(width, width // 4, 1, 1), (width, 1, 5, 5)]


def test_pat_position_code_tells_tokens_apart_and_not_samples() -> None:
    method = pat("cnn4", "vit4")
    maps = [torch.ones(3, s.channels, *s.grid, dtype=torch.float64) for s in make_spec("cnn4").stages]
    blended = torch.cat(method.blending(maps), dim=1)
    torch.testing.assert_close(blended[0], blended[2])
    assert not torch.allclose(blended[0, 0], blended[0, 40])


def test_pat_feedback_is_kept_and_restored() -> None:
    method, (student, teacher) = pat("cnn3", "vit4"), networks("cnn3", "vit4")
    method(student, teacher, make_batch())
    assert method.feedback_0.shape == (8, 32, 4, 4)
    assert not method.feedback_0.requires_grad
    fresh = pat("cnn3", "vit4")
    fresh.load_state_dict(copy.deepcopy(method.state_dict()))
    nn.init.ones_(method.prompts[1].beta)
    nn.init.ones_(fresh.prompts[1].beta)
    batch = make_batch(seed=1)
    a, b = (total(m(copy.deepcopy(student), teacher, batch)) for m in (method, fresh))
    assert torch.equal(a, b)
    assert total(method(student, teacher, make_batch(4))).isfinite()  # another batch size: no feedback


def test_pat_feedback_keeps_its_memory_and_its_layout() -> None:
    method, (student, teacher) = pat("cnn3", "cnn3"), networks("cnn3", "cnn3")
    method(student, teacher, make_batch())
    place = method.feedback_0.data_ptr()
    for size in (4, 8):
        method(student, teacher, make_batch(size))
        assert len(method.feedback_0) == size
        assert method.feedback_0.data_ptr() == place
    fresh = pat("cnn3", "cnn3")
    fresh.load_state_dict(method.state_dict())
    # a convolution over another layout would add in another order
    assert fresh.feedback_0.stride() == method.feedback_0.stride()
    assert not fresh.feedback_0.is_contiguous()
    assert torch.equal(fresh.feedback_0, method.feedback_0)


def test_pat_moves_its_prompts_and_not_the_teacher() -> None:
    method, (student, teacher) = pat("cnn4", "vit4"), networks("cnn4", "vit4")
    total(method(student, teacher, make_batch())).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(prompt.beta.grad.abs() > 0 for prompt in method.prompts)


def test_fcfd_touches_the_students_statistics_once() -> None:
    method = build("FCFD", make_spec("cnn4"), make_spec("cnn4", width=32), PATHS=6).double()
    student, teacher = networks("cnn4", "cnn4")
    alone = copy.deepcopy(student)
    batch = make_batch()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    total(method(student, teacher, batch)).backward()
    alone(batch.images, need=set())
    for key, value in alone.state_dict().items():
        assert torch.equal(value, student.state_dict()[key]), key
    assert all(m.momentum == 0.1 for m in student.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_fcfd_can_normalise_the_teacher_by_the_batch_as_the_release_does() -> None:
    batch, options = make_batch(), {"PATHS": 6, "TEACHER_STATISTICS": "batch"}
    method = build("FCFD", make_spec("cnn4"), make_spec("cnn4", width=32), **options).double()
    student, teacher = networks("cnn4", "cnn4")
    trained = copy.deepcopy(teacher).train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    terms = method(student, teacher, batch)
    assert not any(m.training for m in teacher.modules())
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    own = copy.deepcopy(student)(batch.images, need=set())
    expected = kd_loss(own.logits, trained(batch.images, need=set()).logits, temperature=4.0)
    torch.testing.assert_close(terms["kd"], expected)
    running = build("FCFD", make_spec("cnn4"), make_spec("cnn4", width=32), PATHS=6).double()
    assert not torch.allclose(running(student, teacher, batch)["kd"], expected)


def test_fcfd_paths_depend_on_the_batch_and_not_on_its_order() -> None:
    method = build("FCFD", make_spec("cnn4"), make_spec("cnn4"))
    seen = set()
    for seed in range(20):
        batch = make_batch(seed=seed)
        paths = method.paths(batch)
        assert len(set(paths)) == 2
        order = torch.randperm(8)
        turned = Batch(batch.images, batch.target, batch.index[order], batch.draw[order], epoch=batch.epoch)
        assert method.paths(turned) == paths
        seen |= set(paths)
    assert len(seen) > 3
    assert {i for _, i in seen} <= {0, 1, 2}


@pytest.mark.parametrize("name", INSIDE)
def test_networks_that_cannot_run_by_stages_are_refused(name: str) -> None:
    spec = make_spec("cnn4")
    with pytest.raises(IncompatibleError, match="stage by stage"):
        build(name, spec, replace(spec, stem=None))


def test_fcfd_loss_of_a_perfect_student_is_the_cross_entropy() -> None:
    logits, maps = torch.randn(4, 10), [torch.randn(4, 3, 2, 2)]
    loss, terms = fcfd_loss(
        logits, logits, torch.arange(4), [logits], maps, maps, temperature=4.0, l2_weight=5.0, return_terms=True
    )
    torch.testing.assert_close(loss, terms["ce"])


def composed(*names: str, **options: dict[str, float]):
    spec = make_spec("cnn4"), make_spec("cnn4", width=32)
    return compose(names, *spec, {name: config(name) for name in METHODS}, data_info(), **options).double()


def test_composition_is_the_sum_of_its_parts() -> None:
    method, batch = composed("CRD", "LSKD", "AT", weights={"AT": 0.5}, ce_weights={"LSKD": 0.0}), make_batch()
    student, teacher = (
        random_output(make_spec("cnn4"), 8, seed=1),
        random_output(make_spec("cnn4", width=32), 8, seed=2),
    )
    losses = method.losses(student, teacher, batch)
    assert set(losses) == {"crd/ce", "crd/crd", "lskd/ce", "lskd/kd", "at/ce", "at/at"}
    for name, factor in (("CRD", 1.0), ("LSKD", 1.0), ("AT", 0.5)):
        alone = build(name, make_spec("cnn4"), make_spec("cnn4", width=32)).double().losses(student, teacher, batch)
        for term, value in alone.items():
            weight = factor if term != "ce" else (0.0 if name == "LSKD" else 1.0)
            torch.testing.assert_close(losses[f"{name.lower()}/{term}"], weight * value)
    assert method.student_needs == {"logits", "penultimate", "stages"}
    assert method.needs_labels
    assert method.batch_coupled
    assert not method.needs_networks
    assert method.name == "CRD+LSKD+AT"


class _Counting(FakeNetwork):
    calls = 0

    def forward(self, images, need):
        self.calls += 1
        return super().forward(images, need)


@pytest.mark.parametrize("inside", INSIDE)
def test_composition_with_a_method_inside_the_networks_runs_the_student_once(inside: str) -> None:
    method = composed("RKD", inside)
    student = _Counting(make_spec("cnn4"), seed=1)
    losses = method(student, frozen(FakeNetwork(make_spec("cnn4", width=32), seed=2)), make_batch())
    assert student.calls == 1
    assert {"rkd/rkd", f"{inside.lower()}/ce"} <= set(losses)
    total(losses).backward()
    assert all(p.grad is not None for p in student.parameters() if p.numel())


def test_what_a_composition_refuses() -> None:
    with pytest.raises(IncompatibleError, match="inside the networks"):
        composed("PAT", "FCFD")
    with pytest.raises(ConfigError, match="once"):
        composed("RKD", "rkd")
    with pytest.raises(ConfigError, match="at least two"):
        composed("RKD")
    with pytest.raises(ConfigError, match="weight is given for CRD"):
        composed("RKD", "AT", weights={"CRD": 1.0})
    with pytest.raises(UnknownNameError, match="RKKD"):
        composed("RKD", "RKKD")
