"""What a user's own method, network or data set may hand over: the rest is refused in one line."""

from __future__ import annotations

import pytest
import torch
from child_python import run_python
from small_settings import SMALL

import kdbench
from kdbench.data.build import build_data
from kdbench.data.source import DataSource, MemorySplit, datasets
from kdbench.distillers.base import Distiller, distillers
from kdbench.distillers.batch import check_terms
from kdbench.errors import ConfigError, DataError, LossError, ModelError
from kdbench.models.registry import models

ONE = torch.ones((), requires_grad=True)


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (ONE, "got Tensor"),
        ({}, "got an empty one"),
        (None, "got NoneType"),
        ([ONE], "got list"),
        ({"t": 3.0}, "'t' is a float"),
        ({1: ONE}, "1 is no name"),
        ({"t": ONE.expand(2, 3)}, r"'t' has shape \(2, 3\) and type float32"),
        ({"t": ONE.reshape(1)}, r"'t' has shape \(1,\)"),
        ({"t": ONE.to(torch.complex64)}, "complex64"),
        ({"t": ONE.detach(), "u": ONE.detach()}, "no term has a gradient"),
    ],
)
def test_losses_are_named_terms_without_dimensions(tmp_path, terms, told):
    with pytest.raises(LossError, match=f"OWN.losses.*{told}"):
        check_terms("OWN", terms)

    @kdbench.register_distiller("OWN")
    class Own(Distiller):
        """Whatever."""

        uses_teacher = False

        def losses(self, student, teacher, batch):
            return terms

    try:
        with pytest.raises(LossError, match=r"OWN\.losses"):
            kdbench.train(
                kdbench.load_config(overrides={**SMALL, "DISTILLER.TYPE": "OWN", "LOG.PREFIX": str(tmp_path)})
            )
    finally:
        distillers.remove("own")
    assert not list(tmp_path.rglob("result.json"))


def test_a_detached_term_beside_one_that_learns_is_fine():
    check_terms("OWN", {"ce": ONE, "watched": ONE.detach()})


@pytest.mark.parametrize("name", ["", "../x", "A B", "DKD+KD", "9x", "SOLVER", "Teacher", 3])
def test_a_method_has_a_name_that_a_configuration_can_hold(name):
    class Own(Distiller):
        """Whatever."""

    with pytest.raises(TypeError, match="register_distiller"):
        kdbench.register_distiller(name)(Own)


@pytest.mark.parametrize("defaults", [{"W": None}, {"W.X": 1.0}, {"A": {"B": object()}}, {3: 1.0}, {"": 1.0}])
def test_defaults_are_what_a_configuration_can_hold(defaults):
    class Own(Distiller):
        """Whatever."""

    Own.defaults = defaults
    with pytest.raises(TypeError, match="OWN: default"):
        kdbench.register_distiller("OWN")(Own)
    assert "OWN" not in distillers


def test_a_name_of_kdbenchs_own_is_taken(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from kdbench import Distiller, register_distiller\n"
        "@register_distiller('KD')\n"
        "class A(Distiller):\n    'Mine.'\n"
    )
    code = (
        "import sys\nfrom kdbench.cli.main import main\n"
        "code = main(['list', 'methods', '--import', sys.argv[1]])\nassert code == 2, code\nprint('refused')\n"
    )
    assert "refused" in run_python(code, str(tmp_path / "mine.py"))


def split(labels, size: int = 8, images: int = 8) -> MemorySplit:
    return MemorySplit(torch.zeros(images, 3, size, size, dtype=torch.uint8), labels)


def source(labels=None, **changes) -> DataSource:
    labels = torch.arange(8) % 4 if labels is None else labels
    values = {"classes": list("abcd"), "statistics": ((0.5,) * 3, (0.3,) * 3), **changes}
    return DataSource("own", split(labels), split(torch.arange(8) % 4), **values)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (torch.tensor([0, 1, 2, 3, 0, 1, 2, -100]), "train: label -100 is none of 0 to 3"),
        (torch.tensor([0, 1, 2, 3, 0, 1, 2, 4]), "train: label 4 is none of 0 to 3, the 4 classes"),
        (torch.arange(8).float() % 4, "int64 tensor of shape .*float32"),
        (torch.arange(8, dtype=torch.int32) % 4, "int32"),
        (torch.eye(8, 4).long(), r"shape \(8, 4\)"),
    ],
)
def test_labels_are_class_numbers(labels, told):
    with pytest.raises(DataError, match=told):
        source(labels)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": ["a"] * 4}, "class 'a' stands twice"),
        ({"classes": 4}, "a list of names"),
        ({"classes": list("abc")}, "label 3 is none of 0 to 2"),
        ({"statistics": ((0.5, 0.5), (0.3, 0.3))}, "three channels"),
        ({"statistics": (0.5, 0.3)}, "three channels"),
    ],
)
def test_classes_and_statistics_fit(changes, told):
    with pytest.raises(DataError, match=told):
        source(**changes)


def test_images_are_square_and_there():
    with pytest.raises(DataError, match="square"):
        MemorySplit(torch.zeros(4, 3, 8, 6, dtype=torch.uint8), torch.arange(4))
    with pytest.raises(DataError, match="test: 0 images"):
        DataSource(
            "own", split(torch.arange(8) % 4), split(torch.arange(0), images=0), list("abcd"), ((0.5,) * 3, (0.3,) * 3)
        )


def test_a_builder_returns_a_data_set():
    datasets.add("own_none", lambda root="": None)
    try:
        with pytest.raises(DataError, match="'own_none': its builder returns a kdbench DataSource, got NoneType"):
            build_data(kdbench.load_config(overrides={"DATASET.TYPE": "own_none"}))
    finally:
        datasets.remove("own_none")


@pytest.mark.parametrize(
    ("overrides", "error", "told"),
    [
        ({"STUDENT.OPTIONS.num_classes": 5}, ConfigError, "STUDENT.OPTIONS.num_classes .* follows from the data set"),
        ({"STUDENT.OPTIONS.name": "x"}, ConfigError, "DISTILLER.STUDENT"),
        ({"STUDENT.OPTIONS.input_size": 8}, ConfigError, "beside OPTIONS, as INPUT_SIZE"),
        ({"STUDENT.OPTIONS.widths": [-3, 2, 1]}, ModelError, "cannot be built"),
        ({"DATASET.OPTIONS.root": "x"}, DataError, "DATASET.ROOT"),
        ({"EXPERIMENT.NAME": "n" * 300}, ConfigError, "File name too long"),
    ],
)
def test_options_and_places_that_cannot_be(tmp_path, overrides, error, told):
    cfg = kdbench.load_config(overrides={**SMALL, "LOG.PREFIX": str(tmp_path / "runs"), **overrides})
    with pytest.raises(error, match=told):
        kdbench.train(cfg)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["SOLVER={LR: 0.3}"], "SOLVER.LR", 0.3),
        (["DISTILLER.TYPE=KD", "KD={TEMPERATURE: 3}"], "KD.TEMPERATURE", 3.0),
        (["DISTILLER.TYPE=KD", "KD.LOSS={'KD_WEIGHT': 2}"], "KD.LOSS.KD_WEIGHT", 2.0),
        ({"SOLVER": {"LR": 0.3}}, "SOLVER.LR", 0.3),
    ],
)
def test_a_mapping_sets_its_keys_and_leaves_the_others(words, key, value):
    cfg, plain = (
        kdbench.load_config(overrides=words),
        kdbench.load_config(overrides=words[:-1] if len(words) > 1 else []),
    )
    node, before = cfg, plain
    for part in key.split("."):
        parent, node, before = node, node[part], before[part]
    assert node == value
    assert before != value
    assert len(parent) > 1


def test_an_empty_mapping_sets_nothing():
    with pytest.raises(ConfigError, match="LOG: an empty mapping sets nothing"):
        kdbench.load_config(overrides=["LOG={}"])


def test_a_plain_module_without_parameters_is_no_network():
    kdbench.register_model("own_plain", family="cnn", input_size=8)(lambda num_classes: torch.nn.Sequential())
    try:
        with pytest.raises(ModelError, match=r"own_plain has no parameters"):
            kdbench.create_model("own_plain", num_classes=3)
    finally:
        models.remove("own_plain")
