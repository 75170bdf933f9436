"""Every baseline method on every pair of families: it runs, or it is refused for a reason that a table states."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from method_fixtures import (
    CLASSES,
    INSIDE,
    METHODS,
    FakeNetwork,
    build,
    config,
    frozen,
    make_batch,
    make_spec,
    random_output,
    total,
)
from torch import Tensor
from torch.nn import functional as F

from kdbench.distillers.at import at_loss
from kdbench.distillers.base import Batch, DataInfo, Distiller, distillers
from kdbench.distillers.catkd import cat_kd_loss
from kdbench.distillers.lskd import lskd_loss
from kdbench.distillers.rkd import rkd_loss
from kdbench.distillers.rld import rld_loss
from kdbench.distillers.sdd import sdd_kd_loss
from kdbench.distillers.ttm import ttm_loss
from kdbench.distillers.wttm import wttm_loss
from kdbench.errors import ConfigError, IncompatibleError
from kdbench.models.spec import OUTPUT_KINDS

KINDS = ("cnn3", "cnn4", "vit4", "mixer4")
PAIRS = list(itertools.product(KINDS, KINDS))
#: what switches every module on: both levels of TeKAP, all paths of FCFD
FULL: dict[str, dict[str, Any]] = {"TEKAP_F": {"LOSS__KD_WEIGHT": 1.0}, "FCFD": {"PATHS": 6}}


def refusal(name: str, student: str, teacher: str) -> str | None:
    """A word of the reason for which the pair must be refused."""
    tokens = {kind[:-1] for kind in (student, teacher)} - {"cnn"}
    if name in ("SDD", "SDD_DKD", "SDD_NKD", "CATKD") and "vit" in tokens:
        return "class token"
    if name == "OFD" and not teacher.startswith("cnn"):
        return "batch normalisation"
    if name == "OFD" and not student.startswith("cnn"):
        return "pre_activation"
    if name == "KDSVD" and student != teacher and len(tokens) < 2:
        return "maps of one width"
    if name == "FCFD" and tokens:
        return "token network"
    if name == "FCFD" and student != teacher:
        return "correspond"
    return None


def run(method: Distiller, student: str, teacher: str, batch: Batch) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Loss terms, and the student's tensors that a gradient should reach."""
    method.double()
    if method.needs_networks:
        network = FakeNetwork(make_spec(student), seed=1)
        losses = method(network, frozen(FakeNetwork(make_spec(teacher, width=32), seed=2)), batch)
        return losses, [p for name, p in network.named_parameters() if name.startswith("head")]
    output = random_output(make_spec(student), len(batch.index), seed=1, grad=True)
    losses = method.losses(output, random_output(make_spec(teacher, width=32), len(batch.index), seed=2), batch)
    return losses, [output.logits]


def test_the_list_of_methods_is_what_is_registered() -> None:
    assert set(METHODS) <= set(distillers.names())
    assert "RKKD" not in distillers.names()


@pytest.mark.parametrize("name", METHODS)
def test_declarations(name: str) -> None:
    cls = distillers.get(name)
    assert cls.reference
    assert cls.verified
    assert cls.__doc__
    assert set(cls.teacher_needs) | set(cls.student_needs) <= set(OUTPUT_KINDS)
    for preset in cls.presets.values():
        node = config(name)
        for key, value in preset.items():
            assert key in node
            assert not isinstance(value, dict) or set(value) <= set(node[key])


@pytest.mark.parametrize(("student", "teacher"), PAIRS, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_pair(name: str, student: str, teacher: str) -> None:
    specs = make_spec(student), make_spec(teacher, width=32)
    reason = refusal(name, student, teacher)
    if reason:
        with pytest.raises(IncompatibleError, match=reason):
            build(name, *specs)
        return
    method = build(name, *specs)
    losses, reached = run(method, student, teacher, make_batch())
    assert "ce" in losses
    assert all(value.dim() == 0 and value.isfinite() for value in losses.values())
    total(losses).backward()
    assert all(t.grad is not None and t.grad.isfinite().all() and t.grad.any() for t in reached)


@pytest.mark.parametrize(("student", "teacher"), [("cnn4", "cnn4"), ("cnn3", "vit4"), ("vit4", "cnn4")], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_every_module_learns(name: str, student: str, teacher: str) -> None:
    if refusal(name, student, teacher):
        return
    method = build(name, make_spec(student), make_spec(teacher, width=32), **FULL.get(name, {}))
    for parameter_name, parameter in method.named_parameters():
        if parameter_name.endswith(
            ("beta", "3.1.bias")
        ):  # PAT's prompts start switched off, its small gates may be dead
            torch.nn.init.constant_(parameter, 0.5)
    for step in range(2):  # PAT's feedback exists from the second step on
        losses, _ = run(method, student, teacher, make_batch(seed=step))
    total(losses).backward()
    for parameter_name, parameter in method.named_parameters():
        gradient = parameter.grad
        if name == "FITNET" and student[:3] == teacher[:3] == "cnn" and parameter_name.endswith("0.bias"):
            continue  # mdistiller's regressor has a bias in front of a normalisation, which takes it out again
        if name == "AFD" and parameter_name.endswith("linear.bias"):
            continue  # a bias in front of a normalisation, as the release has it
        if name == "AFD" and parameter_name == "attention.mix.bn.bias":
            continue  # the student's stages share it, and a softmax over them takes it out again
        if name == "MLDR_KD" and parameter_name == "fusion.gate.2.bias":
            continue  # the stages share it, and a softmax over the stages takes it out again
        assert gradient is not None, parameter_name
        assert gradient.isfinite().all(), parameter_name
        assert gradient.abs().max() > 1e-14, parameter_name


DIRECT: dict[str, tuple[str, Any]] = {
    "AT": ("at", lambda s, t, y: 1000.0 * at_loss(s.stages, t.stages, p=2)),
    "CATKD": ("cat", lambda s, t, y: 15.0 * cat_kd_loss(s.cams, t.cams, resolution=2, normalize=False)),
    "LSKD": ("kd", lambda s, t, y: 9.0 * lskd_loss(s.logits, t.logits, temperature=2.0)),
    "RKD": (
        "rkd",
        lambda s, t, y: rkd_loss(
            s.penultimate, t.penultimate, distance_weight=25, angle_weight=50, squared=False, eps=1e-12
        ),
    ),
    "RLD": (  # epoch 3 of 20 warm-up epochs
        "rld",
        lambda s, t, y: (
            0.15 * rld_loss(s.logits, t.logits, y, alpha=1.0, beta=8.0, temperature=4.0, alpha_temperature=4.0)
        ),
    ),
    "SDD": ("kd", lambda s, t, y: 0.9 * sdd_kd_loss(s.region_logits, t.region_logits, y, temperature=4.0)),
    "TTM": ("ttm", lambda s, t, y: 45.0 * ttm_loss(s.logits, t.logits, gamma=0.1)),
    "WTTM": ("wttm", lambda s, t, y: 3.0 * wttm_loss(s.logits, t.logits, gamma=0.1)),
}


@pytest.mark.parametrize("name", DIRECT)
def test_class_is_its_function(name: str) -> None:
    spec, batch = make_spec("cnn4"), make_batch()
    student, teacher = random_output(spec, 8, seed=1), random_output(spec, 8, seed=2)
    method = build(name, spec, spec)
    term, function = DIRECT[name]
    losses = method.losses(student, teacher, batch)
    torch.testing.assert_close(losses[term], function(student, teacher, batch.labels), rtol=1e-12, atol=0)
    ce_weight = method.cfg.LOSS.CE_WEIGHT if "LOSS" in method.cfg else method.cfg.CE_WEIGHT
    torch.testing.assert_close(losses["ce"], ce_weight * F.cross_entropy(student.logits, batch.target))


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_modules(name: str) -> None:
    spec = make_spec("cnn4")
    first, again, other = (build(name, spec, spec, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    if any(value.is_floating_point() and value.dim() > 1 for value in first.values()):
        assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    "name", [name for name in METHODS if not distillers.get(name).batch_coupled and name not in INSIDE]
)
def test_uncoupled_methods_ignore_the_cut_of_a_batch(name: str) -> None:
    """The mean over a batch is the mean of the means over its halves, where a method says so."""
    spec = make_spec("cnn4")
    method = build(name, spec, spec).double().eval()
    batch = make_batch(8)
    outputs = [random_output(spec, 8, seed=seed) for seed in (1, 2)]

    def cut(rows: slice) -> float:
        part = Batch(batch.images[rows], batch.target[rows], batch.index[rows], batch.draw[rows], epoch=3)
        halves = [output.map(lambda t: t[rows]) for output in outputs]
        halves[1].bn_affine, halves[1].classifier = outputs[1].bn_affine, outputs[1].classifier
        with torch.no_grad():
            return total(method.losses(halves[0], halves[1], part)).item()

    assert cut(slice(0, 8)) == pytest.approx((cut(slice(0, 4)) + cut(slice(4, 8))) / 2, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in INSIDE])
def test_half_precision_outputs_and_soft_labels(name: str) -> None:
    spec = make_spec("cnn4")
    method = build(name, spec, spec)
    batch = make_batch()
    batch.target = torch.full((8, CLASSES), 0.02).scatter_(1, batch.target[:, None], 0.82)
    student, teacher = (random_output(spec, 8, seed=seed).map(lambda t: t.bfloat16()) for seed in (1, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = method.losses(student, teacher, batch)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


@pytest.mark.parametrize("name", ["CRD", "TEKAP_F"])
def test_banks_are_refused_without_labels_or_room(name: str) -> None:
    spec = make_spec("cnn4")
    with pytest.raises(IncompatibleError, match="labels"):
        distillers.get(name)(spec, spec, config(name), DataInfo(CLASSES, 40, None))
    with pytest.raises(IncompatibleError, match="MEMORY_GB"):
        build(name, spec, spec, MEMORY_GB=1e-6)


def test_a_small_batch_is_refused() -> None:
    spec = make_spec("cnn4")
    with pytest.raises(IncompatibleError, match="at least 2"):
        build("CC", spec, spec).check_batch(1)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("SDD", "M", [2, 4]),
        ("UHKD", "MODE", "phase"),
        ("UHKD", "FAM", "both"),
        ("UHKD", "KEEP", 0),
        ("UHKD", "PAIRS", [[1, 9]]),
        ("UHKD", "PAIRS", [1, 2]),
        ("FCFD", "TEACHER_STATISTICS", "own"),
    ],
)
def test_bad_hyperparameters_are_named(name: str, key: str, value: Any) -> None:
    spec = make_spec("cnn4")
    with pytest.raises(ConfigError, match=f"{name}.{key}"):
        build(name, spec, spec, **{key: value})


def test_the_nearest_choice_of_a_hyperparameter_is_named() -> None:
    spec = make_spec("cnn4")
    with pytest.raises(
        ConfigError, match=r"OFA.VARIANT: 'oficial' is none of official, paper.*did you mean 'official'"
    ):
        build("OFA", spec, spec, VARIANT="oficial")


def test_uhkd_aligns_in_the_spectrum_and_compares_the_named_levels() -> None:
    student, teacher = make_spec("cnn4"), make_spec("vit4", width=32)
    method = build("UHKD", student, teacher, FAM="spectral", PAIRS=[[1, 4], [4, 4]], MODE="complex", NORMALIZE=False)
    method.double()
    own, others = random_output(student, 8, seed=1), random_output(teacher, 8, seed=2)
    found = method.losses(own, others, make_batch())["feature"]
    expected = []
    for number, aligner in zip((0, 3), method.aligners, strict=True):
        weight = torch.complex(*aligner.weight.detach())
        keep = min(7, *student.stages[number].grid, *teacher.stages[3].grid)
        keep -= 1 - keep % 2
        half = (keep - 1) // 2
        rows = [*range(half + 1), *range(-half, 0)]
        s, t = (
            torch.fft.rfft2(x, norm="forward")[:, :, rows, : half + 1] for x in (own.stages[number], others.stages[3])
        )
        # the mean over real and imaginary parts
        expected.append(((weight @ s.flatten(2)).unflatten(2, s.shape[2:]) - t).abs().square().mean() / 2)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_fitnet_refuses_grids_without_a_regressor() -> None:
    spec = make_spec("cnn4")
    with pytest.raises(IncompatibleError, match="hint layer"):
        build("FITNET", spec, spec, HINT_LAYER=0)
    with pytest.raises(IncompatibleError, match="grid"):
        build("FITNET", make_spec("cnn3"), spec, ALL_STAGES=True, REGRESSOR="linear")
