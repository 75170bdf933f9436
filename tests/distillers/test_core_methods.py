"""Core methods beyond their golden vectors: extreme logits, independent formulas, sizes of the modules, options."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import kdbench
from kdbench import functional as f
from kdbench.distillers.base import Batch, DataInfo
from kdbench.errors import ConfigError, IncompatibleError

LOSSES = {
    "kd": lambda s, t, y: f.kd_loss(s, t, temperature=4.0),
    "dkd": lambda s, t, y: f.dkd_loss(s, t, y, alpha=1.0, beta=8.0, temperature=4.0),
    "dist": lambda s, t, y: f.dist_loss(s, t, beta=1.0, gamma=1.0, temperature=1.0),
    "ofa": lambda s, t, y: f.ofa_loss(s, t, y, eps=1.5, temperature=1.0),
    "ofa paper": lambda s, t, y: f.ofa_loss(s, t, y, eps=1.5, temperature=1.0, variant="paper"),
    "ldrld": lambda s, t, y: f.ldrld_loss(s, t, y, alpha=10.5, beta=7.0, k=5, temperature=4.0),
    "sub_kd": lambda s, t, y: f.sub_logit_kd_loss(s, _sub(s), t, temperature=1.0),
    "sub_ce": lambda s, t, y: f.sub_logit_ce_loss(_sub(s), t, y),
    "orth": lambda s, t, y: f.orthogonality_loss(_sub(s), t, y),
}


def _sub(s):
    return torch.stack((s, s.flip(1)), dim=1)[None]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("gap", [1e2, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_at_extreme_logits(name, gap, dtype):
    torch.manual_seed(1)
    student = (torch.randn(6, 12).sign() * gap).to(dtype).requires_grad_(True)
    teacher = (torch.randn(6, 12).sign() * gap).to(dtype)
    teacher[0] = -student.detach()[0]
    loss = LOSSES[name](student, teacher, torch.arange(6))
    loss.backward()
    assert loss.dtype is torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_teacher_gets_no_say_in_scale_of_batch(name):
    """The batch mean: a batch stacked upon itself has the same loss (DIST's columns keep their correlation as well)."""
    torch.manual_seed(2)
    s, t, y = torch.randn(5, 9, dtype=torch.float64), torch.randn(5, 9, dtype=torch.float64), torch.arange(5)
    once, twice = LOSSES[name](s, t, y), LOSSES[name](s.repeat(2, 1), t.repeat(2, 1), y.repeat(2))
    torch.testing.assert_close(once, twice, rtol=1e-6, atol=1e-9)


@given(st.integers(3, 9), st.floats(0.5, 8.0), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_ldrld_equals_the_sum_over_tuples(k, temperature, seed):
    g = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(4, 11, generator=g, dtype=torch.float64) * 3 for _ in range(2))
    _, terms = f.ldrld_loss(s, t, alpha=1.0, beta=1.0, k=k, temperature=temperature, return_terms=True)
    expected, rest = 0.0, 0.0
    for b in range(4):
        top = s[b].argsort(descending=True)[:k]
        tuples = [
            ((i, j), 2.0 / (1.5 + j - i) * math.exp(-0.05 * (i + j)))
            for i, j in itertools.combinations(range(1, k + 1), 2)
        ]
        for ranks, weight in [*tuples, (tuple(range(1, k + 1)), 1.0)]:
            expected += weight * _kl(t[b], s[b], top[[r - 1 for r in ranks]], temperature)
        others = torch.tensor([c for c in range(11) if c not in top.tolist()])
        rest += _kl(t[b], s[b], others, temperature)
    torch.testing.assert_close(
        terms["ldrld"], torch.as_tensor(expected / 4 / (k * (k - 1) / 2 + 1), dtype=torch.float64)
    )
    torch.testing.assert_close(terms["rntk"], torch.as_tensor(rest / 4, dtype=torch.float64))


def _kl(t, s, classes, temperature):
    p, q = (t[classes] / temperature).softmax(0), (s[classes] / temperature).softmax(0)
    return temperature**2 * float((p * (p.log() - q.log())).sum())


@pytest.mark.parametrize("k", [1, 10, 11])
def test_ldrld_refuses_k(k):
    with pytest.raises(ValueError, match=r"must lie in 2\.\.9"):
        f.ldrld_loss(torch.randn(2, 10), torch.randn(2, 10), alpha=1.0, beta=1.0, k=k, temperature=1.0)


def test_dist_refuses_a_batch_of_one():
    with pytest.raises(ValueError, match="at least 2"):
        f.dist_loss(torch.randn(1, 5), torch.randn(1, 5), beta=1.0, gamma=1.0, temperature=1.0)


def test_ofa_is_soft_cross_entropy_at_eps_1():
    s, t, y = torch.randn(4, 7), torch.randn(4, 7), torch.arange(4)
    torch.testing.assert_close(f.ofa_loss(s, t, y, eps=1.0, temperature=1.0), F.cross_entropy(s, t.softmax(1)))


@pytest.mark.parametrize(("mask", "same"), [("target", False), ("argmax", True), ("both", False)])
def test_orthogonality_masks(mask, same):
    """Where every sub-logit's top class is not the target, masking by argmax differs from masking the target."""
    sub, t = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.zeros(3, 6, dtype=torch.float64)
    sub[..., 2] += 20
    y = torch.zeros(3, dtype=torch.int64)
    got = f.orthogonality_loss(sub, t, y, mask_index=mask)
    at_top = f.orthogonality_loss(sub, t, torch.full((3,), 2), mask_index="target")
    assert torch.allclose(got, at_top) == same


def test_one_sub_logit_has_no_orthogonality():
    assert f.orthogonality_loss(torch.randn(2, 3, 1, 5), torch.randn(3, 5), torch.arange(3)) == 0


SWIN_PICO = {"embed_dim": 48, "depths": [2, 2, 2, 2], "num_heads": [2, 4, 8, 16]}


@pytest.mark.parametrize(
    ("student", "options", "width", "classes", "expected"),
    [
        ("timm:resnet18", {}, 768, 100, 1_626_256),
        ("timm:resnet18", {}, 768, 1000, 4_394_656),
        ("timm:resnet18", {}, 384, 100, 1_194_384),
        ("timm:mobilenetv2_100", {}, 768, 100, 2_529_296),
        ("timm:deit_tiny_patch16_224", {}, 768, 100, 3_783_184),
        ("timm:deit_tiny_patch16_224", {}, 768, 1000, 4_477_984),
        ("timm:swin_tiny_patch4_window7_224", SWIN_PICO, 768, 100, 14_864_656),
        ("timm:resmlp_12_224", {}, 768, 100, 14_938_768),
    ],
)
def test_ofa_branches_have_the_official_number_of_parameters(student, options, width, classes, expected):
    """Counted on OFAKD@f7bb896's class."""
    stages = "ofakd" if "swin" not in student else "auto"
    with torch.device("meta"):
        spec = kdbench.create_model(student, num_classes=classes, stages=stages, **options).spec
    teacher = kdbench.ModelSpec("t", "vit", classes, width, (224, 224))
    method = kdbench.create_distiller("OFA", spec, teacher, kdbench.load_config(overrides={"DISTILLER.TYPE": "OFA"}))
    assert method.extra_parameters() == expected


def build(method, teacher_width=768, **settings):
    with torch.device("meta"):
        spec = kdbench.create_model("timm:resnet18", num_classes=100).spec
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": method, **settings})
    return kdbench.create_distiller(method, spec, kdbench.ModelSpec("t", "vit", 100, teacher_width, (224, 224)), cfg)


def test_hcd_modules_of_the_last_stage():
    method = build("HCD")
    projector, mapper = method.projectors["4"], method.mappers["4"]
    assert sum(p.numel() for p in projector.parameters()) == 1_179_648 + 589_824 + 1_024
    assert sum(p.numel() for p in mapper.parameters()) == 787_200 + 307_600
    assert list(method.projectors) == ["1", "2", "3", "4"]


def test_hcd_options_change_what_they_say():
    assert len(build("HCD", **{"HCD.SHARE_CFM": True}).mappers) == 1
    assert list(build("HCD", **{"HCD.STAGES": [3, 4]}).projectors) == ["3", "4"]
    assert build("HCD", **{"HCD.CFM_HIDDEN": 32}).mappers["1"][0].out_features == 32
    assert build("HCD", **{"HCD.PROJ_STRIDE": 2}).projectors["1"][0].stride == (2, 2)
    release = build("HCD", **{"DISTILLER.PRESET": "release"})
    assert release.mappers["1"][0].in_features == 768 + 768  # OFA's branch is as wide as the wider of the two networks


def test_hcd_sum_and_t_squared():
    student, teacher = (
        kdbench.create_model("small_cnn", num_classes=10, seed=1),
        kdbench.create_model("small_vit", num_classes=10, seed=2),
    )
    images, y = torch.rand(4, 3, 8, 8), torch.arange(4)
    batch = Batch(images, y, y, y)

    def terms(**settings):
        cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "HCD", "HCD.TEMPERATURE": 2.0, **settings})
        method = kdbench.create_distiller("HCD", student, teacher, cfg, data=DataInfo(10))
        return method(student.eval(), teacher(images), batch)

    base, summed, plain = terms(), terms(**{"HCD.STAGE_REDUCTION": "sum"}), terms(**{"HCD.T_SQUARED": False})
    for name in ("sub_ce", "sub_kd", "orth"):
        torch.testing.assert_close(summed[name], 3 * base[name])
    torch.testing.assert_close(base["kd"], 4 * plain["kd"])
    torch.testing.assert_close(base["sub_kd"], 4 * plain["sub_kd"])
    torch.testing.assert_close(base["sub_ce"], plain["sub_ce"])


def test_modules_do_not_depend_on_one_another():
    """A method's weights depend on (seed, method, module name): choosing fewer stages leaves the others as they were."""
    some, every = build("HCD", **{"HCD.STAGES": [3]}), build("HCD")
    for key, value in some.projectors["3"].state_dict().items():
        assert torch.equal(value, every.projectors["3"].state_dict()[key])


def test_dkd_warmup_counts_from_one():
    method = build("DKD")
    z, y = torch.randn(4, 100), torch.arange(4)
    output = kdbench.ModelOutput(z, torch.randn(4, 8))
    teacher = kdbench.ModelOutput(torch.randn(4, 100), torch.randn(4, 8))
    early, late = (method.losses(output, teacher, Batch(z, y, y, y, epoch=e))["dkd"] for e in (1, 20))
    torch.testing.assert_close(20 * early, late)


def test_teacher_of_another_number_of_classes_is_refused():
    spec = kdbench.create_model("small_cnn", num_classes=10).spec
    teacher = kdbench.ModelSpec("t", "vit", 12, 16, (8, 8))
    with pytest.raises(IncompatibleError, match="the teacher knows 12 classes, the student 10"):
        kdbench.create_distiller("KD", spec, teacher, kdbench.load_config(overrides={"DISTILLER.TYPE": "KD"}))
    with pytest.raises(ConfigError, match="needs a teacher"):
        kdbench.create_distiller("KD", spec, None, kdbench.load_config(overrides={"DISTILLER.TYPE": "KD"}))
