"""Methods without a configuration, batches that say little, and losses at their methods' defaults."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

import kdbench
from kdbench.distillers.base import distillers
from kdbench.errors import ConfigError, KdbenchError, LossError, UnknownNameError

#: functional loss: the method whose defaults it has, and arguments that are called otherwise there
LOSSES = {
    "at_loss": ("AT", {}),
    "cat_kd_loss": ("CATKD", {}),
    "crd_loss": ("CRD", {"temperature": "NCE.TEMPERATURE", "momentum": "NCE.MOMENTUM"}),
    "ab_loss": ("AB", {}),
    "ctkd_loss": ("CTKD", {}),
    "deit_loss": ("DEIT", {}),
    "aver_loss": ("AVER", {}),
    "ca_mkd_loss": ("CA_MKD", {}),
    "dfra_loss": ("MLDR_KD", {}),
    "diffkd_loss": ("DIFFKD", {}),
    "dist_loss": ("DIST", {}),
    "dkd_loss": ("DKD", {"temperature": "T"}),
    "fcfd_loss": ("FCFD", {"l2_weight": "LOSS.FEAT_WEIGHT"}),
    "ft_loss": ("FT", {}),
    "ipwd_loss": ("IPWD", {}),
    "kd_loss": ("KD", {}),
    "kdsvd_loss": ("KDSVD", {}),
    "ldrld_loss": ("LDRLD", {}),
    "lskd_loss": ("LSKD", {}),
    "mlkd_loss": ("MLKD", {"standardized": "STANDARDIZE"}),
    "nkd_loss": ("NKD", {}),
    "norm_loss": ("NORM", {}),
    "ofa_loss": ("OFA", {}),
    "orthogonality_loss": ("HCD", {}),
    "pkt_loss": ("PKT", {}),
    "rkd_loss": ("RKD", {"squared": "PDIST.SQUARED", "eps": "PDIST.EPSILON"}),
    "rld_loss": ("RLD", {"temperature": "T", "alpha_temperature": "ALPHA_T", "standardize": "LOGIT_STAND"}),
    "rsd_loss": ("RSD", {}),
    "sdd_dkd_loss": ("SDD_DKD", {"temperature": "T"}),
    "sdd_kd_loss": ("SDD", {}),
    "sdd_nkd_loss": ("SDD_NKD", {"temperature": "T"}),
    "srd_loss": ("SRD", {}),
    "srrl_loss": ("SRRL", {}),
    "sskd_loss": (
        "SSKD",
        {
            **{f"{term}_temperature": f"{term.upper()}_T" for term in ("kd", "tf", "ss")},
            **{f"{term}_weight": f"LOSS.{term.upper()}_WEIGHT" for term in ("kd", "tf", "ss")},
            **{f"{term}_ratio": f"RATIO_{term.upper()}" for term in ("tf", "ss")},
        },
    ),
    "sub_logit_ce_loss": ("HCD", {"label_smoothing": "SUB_CE_SMOOTHING"}),
    "sub_logit_kd_loss": ("HCD", {}),
    "tekap_feature_loss": (
        "TEKAP_F",
        {"temperature": "NCE.TEMPERATURE", "momentum": "NCE.MOMENTUM"},
    ),
    "tekap_loss": ("TEKAP", {}),
    "ttm_loss": ("TTM", {}),
    "uskd_loss": ("USKD", {}),
    "vid_loss": ("VID", {}),
    "vitkd_loss": ("VITKD", {}),
    "wsld_loss": ("WSLD", {}),
    "wttm_loss": ("WTTM", {}),
}
#: arguments that are no hyperparameters: what the loss reads, and how it answers
READ = {
    "return_terms",
    "grl_lambda",
    "gather",
    "z_is_set",
    "z_student",
    "z_teacher",
    "num_data",
    "mixed_maps",
    "fuse",
    "pool",
}


def at(tree, key):
    for part in key.split("."):
        tree = tree[part]
    return tree[0] if isinstance(tree, (tuple, list)) and len(tree) == 1 else tree


def arguments(name):
    """Keyword arguments of a loss that are numbers, words or truth values, with their defaults."""
    found = inspect.signature(getattr(kdbench.functional, name)).parameters.values()
    return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY and p.name not in READ}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_have_the_defaults_of_their_methods(name):
    method, called = LOSSES[name]
    defaults = distillers.get(method).defaults
    compared = 0
    for argument, value in arguments(name).items():
        assert value is not inspect.Parameter.empty, argument
        key = called.get(argument, argument.upper())
        if "." in key or key in defaults:
            assert value == at(defaults, key), argument
            compared += 1
    assert compared


def test_every_loss_is_looked_at():
    """Those that are not in the list have no hyperparameter, or one of their own that is not the method's."""
    others = {name for name in kdbench.functional.__all__ if name.endswith("_loss")} - set(LOSSES)
    own = {
        "lskd_dkd_loss": {"alpha": 9.0, "beta": 72.0, "temperature": 2.0, "eps": 1e-7},
        "pat_regularization_loss": {"temperature": 1.0},
    }
    assert {name: found for name in others if (found := arguments(name))} == own
    preset = distillers.get("DKD").presets["standardized"]
    assert (
        own["lskd_dkd_loss"].items()
        >= {"alpha": preset["ALPHA"], "beta": preset["BETA"], "temperature": preset["T"]}.items()
    )


def networks():
    made = [kdbench.create_model(name, num_classes=5, data_size=16, seed=1) for name in ("small_cnn", "resnet8x4")]
    return made[0], made[1].eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("method", "options", "key", "value"),
    [
        ("KD", {}, "TEMPERATURE", 4.0),
        ("KD", {"temperature": 3}, "TEMPERATURE", 3.0),
        ("KD", {"kd_weight": 0.5}, "LOSS.KD_WEIGHT", 0.5),
        ("KD", {"loss_kd_weight": 0.5}, "LOSS.KD_WEIGHT", 0.5),
        ("KD", {"kd_loss_kd_weight": 0.5}, "LOSS.KD_WEIGHT", 0.5),
        ("kd", {"preset": "imagenet"}, "LOSS.CE_WEIGHT", 0.5),
        ("KD", {"preset": "imagenet", "temperature": 2.0}, "TEMPERATURE", 2.0),
        ("DKD", {"t": 2.0}, "T", 2.0),
        ("OFA", {"eps": [1.5]}, "EPS", (1.5,)),
    ],
)
def test_hyperparameters_are_keywords(method, options, key, value):
    made = kdbench.create_distiller(method, *networks(), **options)
    assert at({"": made.cfg}, f".{key}") == (value[0] if isinstance(value, tuple) else value)


def test_it_is_the_method_of_the_configuration():
    student, teacher = networks()
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "RSD", "EXPERIMENT.SEED": 4, "RSD.KAPPA": 0.1})
    one = kdbench.create_distiller("RSD", student, teacher, cfg)
    two = kdbench.create_distiller("RSD", student, teacher, kappa=0.1, seed=4)
    assert one.cfg == two.cfg
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    three = kdbench.create_distiller("RSD", student, teacher, kappa=0.1, seed=5)
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters()))


def test_several_methods_and_a_key_of_both():
    made = kdbench.create_distiller("DIST+KD", *networks(), kd_temperature=2.0, beta=3.0)
    assert (made.parts["KD"].cfg.TEMPERATURE, made.parts["DIST"].cfg.TEMPERATURE) == (2.0, 4.0)
    assert made.parts["DIST"].cfg.BETA == 3.0
    with pytest.raises(ConfigError, match=r"DIST\+KD: temperature may be dist_temperature or kd_temperature"):
        kdbench.create_distiller("DIST+KD", *networks(), temperature=2.0)


@pytest.mark.parametrize(
    ("method", "options", "error", "told"),
    [
        ("KD", {"temprature": 4}, ConfigError, "KD has no hyperparameter 'temprature'.*did you mean 'temperature'"),
        (
            "KD",
            {"zzz": 4},
            ConfigError,
            "no hyperparameter 'zzz'; it has temperature, standardize, ce_weight, kd_weight",
        ),
        ("KD", {"temperature": 0}, ConfigError, r"KD\.TEMPERATURE: .*\(0, inf\)"),
        ("KD", {"temperature": "hot"}, ConfigError, r"KD\.TEMPERATURE"),
        ("KD", {"preset": "imagenett"}, ConfigError, "no preset 'imagenett'.*did you mean 'imagenet'"),
        ("NONE", {"temperature": 1}, ConfigError, "has no hyperparameter 'temperature'"),
        ("KDD", {}, UnknownNameError, "unknown method 'KDD'"),
        (
            "KD",
            {"cfg": kdbench.load_config(overrides={"DISTILLER.TYPE": "KD"}), "temperature": 4},
            ConfigError,
            "beside cfg",
        ),
    ],
)
def test_what_is_refused(method, options, error, told):
    with pytest.raises(error, match=told) as raised:
        kdbench.create_distiller(method, *networks(), **options)
    assert "\n" not in str(raised.value)


def test_a_plain_module_is_told_how_it_is_wrapped():
    with pytest.raises(ConfigError, match=r"teacher is a Linear, expects a FeatureModel.*wrap_model"):
        kdbench.create_distiller("KD", networks()[0], nn.Linear(2, 2))
    with pytest.raises(KdbenchError, match="student is None"):
        kdbench.create_distiller("KD", None, networks()[1])


@pytest.mark.parametrize("method", ["KD", "DKD", "TEKAP", "FITNET", "AT", "RKD", "OFA", "FCFD"])
def test_images_and_labels_are_enough(method):
    student, teacher = networks()
    made = kdbench.create_distiller(method, student, teacher).train()
    batch = kdbench.Batch(torch.rand(8, 3, 16, 16), torch.arange(8) % 5)
    taught = teacher if made.needs_networks else teacher(batch.images, need=made.teacher_needs)
    sum(made(student, taught, batch).values()).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def test_draws_differ_from_batch_to_batch_and_follow_the_index():
    images, target = torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)
    one, two = kdbench.Batch(images, target), kdbench.Batch(images, target)
    assert not set(one.draw.tolist()) & set(two.draw.tolist())
    assert torch.equal(one.host_draw, one.draw)
    known = kdbench.Batch(images, target, index=torch.tensor([3, 1, 2, 0]))
    assert torch.equal(known.draw, known.index)
    assert torch.equal(known.positions, known.index)
    same = [kdbench.Batch(images, target, index=known.index).generator("x").uniform(3) for _ in range(2)]
    assert torch.equal(*same)


def test_what_remembers_images_asks_which_they_are():
    student, teacher = networks()
    labels = torch.arange(20) % 5
    made = kdbench.create_distiller("CRD", student, teacher, data=kdbench.DataInfo(5, 20, labels), k=8).train()
    images = torch.rand(8, 3, 16, 16)
    taught = teacher(images, need=made.teacher_needs)
    with pytest.raises(LossError, match=r"index=positions in the training set"):
        made(student, taught, kdbench.Batch(images, labels[:8]))
    terms = made(student, taught, kdbench.Batch(images, labels[:8], index=torch.arange(8)))
    assert all(torch.isfinite(term) for term in terms.values())
