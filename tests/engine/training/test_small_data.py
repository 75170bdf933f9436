"""Two or three classes, and batches of one or two samples: a method is refused or says which of its terms is constant."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from each_method import each_method, short

import kdbench
from kdbench.data.build import build_data
from kdbench.distillers.base import Batch, DataInfo, distillers
from kdbench.distillers.create import create_distiller
from kdbench.engine.parts import build_network
from kdbench.errors import ConfigError, IncompatibleError

METHODS = [name for name in distillers.names() if distillers.get(name).__module__.startswith("kdbench.")]


def configure(folder: Path, method: str, classes: int, batch: int, **extra):
    settings = {
        "DATASET.TYPE": "fake",
        "DATASET.OPTIONS": {"size": 8, "train": 6 * batch, "test": 4, "num_classes": classes},
        "DATASET.NUM_WORKERS": 0,
        "DISTILLER.TYPE": method,
        "DISTILLER.STUDENT": "small_cnn",
        "AUGMENT.CROP": "none",
        "SOLVER.EPOCHS": 1,
        "SOLVER.BATCH_SIZE": batch,
        "SOLVER.LR": 0.001,
        "LOG.PREFIX": str(folder),
    }
    if method != "Vanilla":
        settings["DISTILLER.TEACHER"] = "small_cnn"
    if method == "DEIT":
        settings |= {"DISTILLER.STUDENT": "small_vit", "STUDENT.OPTIONS": {"distilled": True}}
    if method == "VITKD":
        settings |= {"DISTILLER.STUDENT": "small_vit", "DISTILLER.TEACHER": "small_vit"}
    return kdbench.load_config(overrides={**settings, **short(method), **extra})


def lines_of(cfg) -> list[str]:
    """What the method says of its terms; the run is not started."""
    data = build_data(cfg)
    networks = [build_network(cfg, role, data) for role in ("STUDENT", "TEACHER")]
    info = DataInfo(data.num_classes, len(data.train), data.train.labels)
    return list(create_distiller(cfg.DISTILLER.TYPE, *networks, cfg, data=info).vanishing(cfg.SOLVER.BATCH_SIZE))


@pytest.mark.parametrize("method", each_method(METHODS))
@pytest.mark.parametrize(("classes", "batch"), [(2, 4), (3, 4), (5, 1), (2, 1)])
def test_a_run_is_finite_or_refused_before_its_folder_exists(tmp_path, method, classes, batch):
    extra = {"LDRLD.K": 2} if method == "LDRLD" else {}
    refusal, result = "", None
    try:
        result = kdbench.train(configure(tmp_path, method, classes, batch, **extra))
    except (IncompatibleError, ConfigError) as error:
        refusal = str(error)
    if result is None:
        assert re.search(r"batch|classes|BATCH_SIZE|LDRLD\.K", refusal)
        assert not any(tmp_path.iterdir())
    else:
        assert result.top1_last >= 0
        assert (Path(result.folder) / "student.safetensors").is_file()


REFUSED = {
    ("LDRLD", 2): "needs at least 3 classes, and there are 2",
    ("LSKD", 2): "needs at least 3 classes",
}


@pytest.mark.parametrize(("method", "classes"), REFUSED)
def test_too_few_classes(tmp_path, method, classes):
    with pytest.raises(IncompatibleError, match=REFUSED[method, classes]):
        kdbench.train(configure(tmp_path, method, classes, 4))


def test_one_class_is_nothing_to_tell_apart(tmp_path):
    with pytest.raises(IncompatibleError, match="at least 2 classes"):
        kdbench.train(configure(tmp_path, "Vanilla", 1, 4))


@pytest.mark.parametrize(
    "key", ["KD.STANDARDIZE", "DKD.STANDARDIZE", "CTKD.STANDARDIZE", "MLKD.STANDARDIZE", "RLD.LOGIT_STAND"]
)
def test_standardised_logits_of_two_classes_are_constants(tmp_path, key):
    method = key.partition(".")[0]
    with pytest.raises(IncompatibleError, match=f"two classes are .* whatever a network says: leave {key} off"):
        kdbench.train(configure(tmp_path, method, 2, 4, **{key: True}))
    kdbench.train(configure(tmp_path, method, 3, 4, **{key: True}))


def test_ldrld_says_how_many_classes_there_may_be(tmp_path):
    with pytest.raises(ConfigError, match=r"LDRLD\.K: 7 top classes of 3 .* expects 2 to 2, for instance LDRLD\.K=2"):
        kdbench.train(configure(tmp_path, "LDRLD", 3, 4))
    assert not any(tmp_path.iterdir())


CONSTANT = [
    ("DKD", 2, 4, {}, "BETA"),
    ("SDD_DKD", 2, 4, {}, "BETA"),
    ("RLD", 2, 4, {}, "BETA"),
    ("LDRLD", 3, 4, {"LDRLD.K": 2}, "BETA"),
    ("DIST", 2, 4, {}, "BETA"),
    ("DIST", 5, 2, {}, "GAMMA"),
    ("RKD", 5, 2, {}, "both terms"),
    ("RSD", 5, 2, {}, "no gradient"),
    ("HCD", 5, 4, {"HCD.N": 1}, "ORTH_WEIGHT"),
    ("HCD", 2, 4, {}, "ORTH_WEIGHT"),
    ("IPWD", 2, 4, {}, "weights"),
    ("HCD", 5, 4, {"HCD.THRESHOLD": 1.0}, "THRESHOLD"),
    ("CTKD", 5, 4, {"CTKD.T_END": 0.0}, "T_END"),
    ("CRD+DKD", 2, 4, {}, "DKD: with two classes"),
    ("CATKD", 5, 4, {"CATKD.RESOLUTION": 1, "CATKD.NORMALIZE": True}, "RESOLUTION"),
]


@pytest.mark.parametrize(("method", "classes", "batch", "extra", "part"), CONSTANT)
def test_a_term_that_is_constant_is_named(tmp_path, caplog, method, classes, batch, extra, part):
    cfg = configure(tmp_path, method, classes, batch, **extra)
    with caplog.at_level(logging.WARNING, logger="kdbench"):
        kdbench.train(cfg)
    assert any(line.startswith(f"{method}: ") and part in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("method", "extra"),
    [
        ("DKD", {"DKD.CE_WEIGHT": 0, "DKD.ALPHA": 0}),
        ("RLD", {"RLD.CE_WEIGHT": 0, "RLD.ALPHA": 0}),
        ("SDD_DKD", {"SDD_DKD.CE_WEIGHT": 0, "SDD_DKD.ALPHA": 0}),
        ("DIST", {"DIST.LOSS.CE_WEIGHT": 0, "DIST.GAMMA": 0}),
    ],
)
def test_what_is_called_constant_has_no_gradient(tmp_path, method, extra):
    """The named part alone: no gradient reaches the student, rounding aside."""
    cfg = configure(tmp_path, method, 2, 4, **extra)
    data = build_data(cfg)
    student, teacher = (build_network(cfg, role, data, seed=i) for i, role in enumerate(("STUDENT", "TEACHER")))
    info = DataInfo(2, len(data.train), data.train.labels)
    distiller = create_distiller(method, student, teacher, cfg, data=info)
    index = torch.arange(4)
    batch = Batch(torch.rand(4, 3, 8, 8), data.train.labels[index], index, index, epoch=30)
    outputs = teacher.eval()(batch.images, need=distiller.teacher_needs).detach()
    sum(distiller(student, outputs, batch).values()).backward()
    largest = max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None)
    assert largest < 2e-3  # the terms left out give 0.1 and more


def test_where_nothing_is_constant_nothing_is_said(tmp_path):
    for method in METHODS:
        if method in ("Vanilla", "FCFD"):
            continue
        assert lines_of(configure(tmp_path, method, 10, 8)) == []


def test_a_batch_of_one_names_what_cannot_take_it(tmp_path):
    with pytest.raises(IncompatibleError, match="REVIEWKD compares the samples of a batch and needs at least 2"):
        kdbench.train(configure(tmp_path, "REVIEWKD", 5, 1))
    with pytest.raises(IncompatibleError, match="one sample, of which batch normalisation in HCD sees a single value"):
        kdbench.train(configure(tmp_path, "HCD", 5, 1, **{"HCD.PROJ_STRIDE": 2}))
    assert not any(tmp_path.iterdir())


def test_a_student_that_cannot_take_one_sample(tmp_path):
    cfg = configure(tmp_path, "Vanilla", 5, 1, **{"STUDENT.OPTIONS.widths": [4, 4, 4, 4, 4]})
    with pytest.raises(IncompatibleError, match="batch normalisation in student small_cnn"):
        kdbench.train(cfg)


def test_the_probe_leaves_no_trace(tmp_path):
    """A batch of one that is possible starts from the same weights and draws as ever."""
    cfg = configure(tmp_path, "CRD", 5, 1)
    data = build_data(cfg)
    result = kdbench.train(cfg)
    assert Path(result.folder).is_dir()
    assert len(data.train) == 6


@pytest.mark.parametrize(
    ("method", "key", "value", "part"),
    [
        ("FCFD", "FCFD.PATHS", 5, "expects 1 to 4"),
        ("OFD", "OFD.CONNECTOR.KERNEL_SIZE", 2, "expects an odd number"),
        ("PAT", "PAT.DIM", 30, "no multiple of PAT.HEADS"),
        ("UHKD", "UHKD.KEEP", 4, "expects an odd number"),
        ("FITNET", "FITNET.REGRESSOR", "linar", "did you mean 'linear'"),
    ],
)
def test_a_value_that_was_changed_or_ignored_without_a_word_is_refused(tmp_path, method, key, value, part):
    with pytest.raises(ConfigError, match=rf"{key}: .*{part}"):
        kdbench.train(configure(tmp_path, method, 5, 4, **{key: value}))
    assert not any(tmp_path.iterdir())
