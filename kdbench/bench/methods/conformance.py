"""What every method must do on every pair of families: the checks behind the conformance table.

``check_pair("KD", "vit", "cnn")`` builds both small networks and the method, takes one step, and returns ``"runs"`` or the
reason for which the method refuses the pair; anything else that happens is an AssertionError.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.config.load import load_config
from kdbench.data.augmentation.looks import LOOKS
from kdbench.distillers.base import Batch, DataInfo, Distiller, distillers
from kdbench.distillers.batch import run
from kdbench.distillers.create import create_distiller, uses_teacher
from kdbench.distillers.phase import Phase
from kdbench.distillers.unused import left_out, without_gradient
from kdbench.errors import IncompatibleError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.zoo import create_model
from kdbench.random import forked_seed

#: one small network a family; ``token`` is a ViT that classifies by its class token
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("small_cnn", {}),
    "vit": ("small_vit", {}),
    "token": ("small_vit", {"class_token": True}),
    "mlp": ("small_mixer", {}),
}
#: beside them the networks that only some methods are tried on: ``distilled`` is a ViT with a distillation token
NETWORKS = {**FAMILIES, "distilled": ("small_vit", {"distilled": True})}
CLASSES, BATCH, _SAMPLES = 10, 8, 40


def students(method: str) -> tuple[str, ...]:
    """Keys of the students that a method is tried on: the families, and what else it needs."""
    reads_heads = "head_logits" in distillers.get(method).student_needs
    return (*FAMILIES, "distilled") if reads_heads else tuple(FAMILIES)


def check_pair(
    method: str,
    teacher: str,
    student: str,
    *,
    models: dict[str, tuple[str, dict[str, Any]]] | None = None,
    batch: int = BATCH,
) -> str:
    """One step of ``method`` from a teacher family to a student family.

    Checks: every term is finite; each term that is not constant gives the student, or a module of the method, a gradient
    of its own; a gradient reaches the student; none reaches the teacher, whose parameters and buffers stay byte-identical;
    the method's parameters are counted and are not part of the student that is exported; where a trained parameter gets no
    gradient, the method declares ``unused_parameters``. In each of its phases before the first epoch, the terms are finite and
    reach all modules of the phase, and the student where it takes part.

    Args:
        method: registered name.
        teacher, student: keys of ``models``.
        models: name and options of a network by key; default: the small ones of :data:`NETWORKS`.
        batch: samples.

    Returns:
        ``"runs"``, or the reason of the refusal.

    Raises:
        AssertionError: a check failed.
    """
    zoo = models or NETWORKS
    try:
        s_model, t_model, distiller = create_pair(method, zoo[teacher], zoo[student])
    except IncompatibleError as error:
        return str(error)
    before = None if t_model is None else fingerprint(t_model)
    terms = step(distiller, s_model, t_model, make_batch(s_model, batch))
    assert terms, f"{method} returned no loss terms"
    for name, value in terms.items():
        assert value.dim() == 0, f"{method}: term {name} has shape {tuple(value.shape)}"
        assert torch.isfinite(value), f"{method}: term {name} is {float(value)}"
        _check_gradient(method, name, value, s_model, distiller)
    torch.stack(list(terms.values())).sum().backward()
    reached = sum(float(p.grad.abs().sum()) for p in s_model.parameters() if p.grad is not None)
    assert reached > 0, f"{method}: no gradient reaches the student"
    unused = sorted(unused_parameters(distiller, s_model))
    assert not unused or distiller.unused_parameters, (
        f"{method}: no gradient reaches {', '.join(unused[:3])}, for which several processes would wait: declare "
        "unused_parameters = True"
    )
    _check_phases(method, distiller, s_model, t_model, make_batch(s_model, batch))
    if t_model is not None:
        assert all(p.grad is None for p in t_model.parameters()), f"{method}: a gradient reaches the teacher's weights"
        assert fingerprint(t_model) == before, f"{method}: the teacher was changed"
    own = {id(p) for p in distiller.parameters()}
    assert not own & {id(p) for p in s_model.parameters()}, f"{method}: owns parameters of the student"
    assert distiller.extra_parameters() == sum(p.numel() for p in distiller.parameters() if p.requires_grad)
    return "runs"


def create_pair(
    method: str, teacher: tuple[str, dict[str, Any]], student: tuple[str, dict[str, Any]], *, classes: int = CLASSES
) -> tuple[FeatureModel, FeatureModel | None, Distiller]:
    """The student, the teacher (None where the method uses none) and the method, ready for a step.

    Args:
        method: registered name.
        teacher, student: name and options of a network.
        classes: of the data.

    Raises:
        IncompatibleError: the method refuses the pair.
    """
    s_model, t_model = _network(student, seed=1, classes=classes).train(), None
    if uses_teacher(method):
        t_model = _network(teacher, seed=2, classes=classes).eval().requires_grad_(False)
    cfg = load_config(overrides={"DISTILLER.TYPE": method})
    data = DataInfo(classes, _SAMPLES, _labels(classes), BATCH)
    distiller = create_distiller(method, s_model, t_model, cfg, data=data).train()
    return distiller.adapt(s_model, t_model).train(), t_model, distiller


def make_batch(student: FeatureModel, size: int, first: int = 0, classes: int = CLASSES) -> Batch:
    """``size`` samples from position ``first`` on, with random images of the student's size."""
    generator = torch.Generator().manual_seed(3 + first)
    index = torch.arange(first, first + size)
    images = torch.rand(size, 3, *student.input_size, generator=generator)
    looks = {name: images.roll(1 + place, 3) for place, name in enumerate(LOOKS)}  # no two the same
    return Batch(images, _labels(classes)[index], index, index, epoch=1, progress=0.5, seed=1, looks=looks)


def step(distiller: Distiller, student: FeatureModel, teacher: FeatureModel | None, batch: Batch) -> dict[str, Tensor]:
    """The method's terms for a batch, student and teacher run."""
    torch.manual_seed(4)
    return distiller(student, distiller.taught(teacher, batch), batch)


def phase_step(phase: Phase, student: FeatureModel, teacher: FeatureModel | None, batch: Batch) -> dict[str, Tensor]:
    """The terms of a method's phase for a batch, student and teacher run."""
    torch.manual_seed(4)
    with torch.no_grad():
        given = run(teacher, batch, phase.teacher_needs, phase.looks)
    return phase.terms(student, given, batch)


def unused_parameters(distiller: Distiller, student: FeatureModel) -> set[str]:
    """After a backward pass: names of trained parameters without a gradient, but for those that the network leaves out."""
    apart = {f"student.{name}" for name in left_out(student, distiller.student_needs)}
    return set(without_gradient(student, distiller)) - apart


def fingerprint(module: nn.Module) -> str:
    """Hash of every parameter and buffer, byte by byte."""
    digest = hashlib.sha256()
    for name, value in sorted([*module.named_parameters(), *module.named_buffers()], key=lambda item: item[0]):
        digest.update(name.encode() + value.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def _network(entry: tuple[str, dict[str, Any]], seed: int, classes: int) -> FeatureModel:
    name, options = entry
    model = create_model(name, num_classes=classes, seed=seed, **options)
    with forked_seed("conformance", seed):
        for classifier in (m for m in model.modules() if isinstance(m, nn.Linear) and not bool(m.weight.any())):
            # a Mixer's classifier starts at zero; with two of them nothing would tell teacher and student apart
            nn.init.normal_(classifier.weight, std=0.1)
    return model


def _labels(classes: int) -> Tensor:
    return torch.arange(_SAMPLES) % classes


def _check_phases(
    method: str, distiller: Distiller, student: FeatureModel, teacher: FeatureModel | None, batch: Batch
) -> None:
    for phase in distiller.phases():
        own = [p for module in phase.modules for p in module.parameters()]
        assert not any(p.requires_grad for p in own), f"{method}: {phase.name} is trained outside its phase, too"
        phase.train(True)
        student.zero_grad(set_to_none=True)
        terms = phase_step(phase, student, teacher, batch)
        for name, value in terms.items():
            assert value.dim() == 0, f"{method}: term {name} of {phase.name} has shape {tuple(value.shape)}"
            assert torch.isfinite(value), f"{method}: term {name} of {phase.name} is {float(value)}"
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is not None for p in own), f"{method}: no gradient reaches all modules of {phase.name}"
        reached = any(p.grad is not None and bool(p.grad.any()) for p in student.parameters())
        assert reached != phase.on_teacher, f"{method}: {phase.name} and the student, on_teacher = {phase.on_teacher}"
        phase.train(False)


def _check_gradient(method: str, name: str, value: Tensor, student: nn.Module, distiller: nn.Module) -> None:
    wanted = [p for module in (student, distiller) for p in module.parameters() if p.requires_grad]
    assert value.requires_grad, f"{method}: term {name} depends on nothing that is trained"
    gradients = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
    reached = any(g is not None and bool((g != 0).any()) for g in gradients)
    assert reached or float(value.detach()) == 0.0, f"{method}: term {name} = {float(value.detach())} trains nothing"
