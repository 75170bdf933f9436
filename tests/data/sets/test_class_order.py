"""The order of a folder's classes: torchvision's by default, said where timm's differs, or as the configuration names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from replicas import class_tree
from timm.utils import natural_key as timms_key

import kdbench
from kdbench.data.build import build_data
from kdbench.data.sets.formats.class_order import natural_key, order_classes
from kdbench.data.source import DataSource
from kdbench.engine.session.locate import locate
from kdbench.errors import DataError

NAMES = ["class10", "class2", "class1", "Bird"]
CODE = ["Bird", "class1", "class10", "class2"]
NATURAL = ["Bird", "class1", "class2", "class10"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_tree(tmp_path_factory.mktemp("set"), NAMES, {"train": 3, "val": 2})


def load(tree: Path, **options) -> DataSource:
    return build_data(config(tree, **options))


def config(tree: Path, **options):
    return kdbench.load_config(overrides={"DATASET.TYPE": f"folder:{tree}", "DATASET.OPTIONS": options})


def pairs(data: DataSource) -> set[tuple[str, str]]:
    """(folder of a file, name of its label), of both splits."""
    return {
        (name.partition("/")[0], data.classes[label])
        for split in (data.train, data.test)
        for name, label in zip(split.files, split.labels.tolist())
    }


def test_the_natural_order_is_timms() -> None:
    names = ["a10b2", "A9", "10", "9", "b", "a", "a 1", "a01", "ä2", "", "x100y20", "x100y3"]
    assert sorted(names, key=natural_key) == sorted(names, key=timms_key)
    assert [natural_key(name) for name in names] == [timms_key(name) for name in names]
    natural_key("²")


def test_orders(tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    named = ["class2", "Bird", "class10", "class1"]
    (tmp_path / "order.txt").write_text("\n".join(named) + "\n\n")
    wanted = {"": CODE, "code_point": CODE, "natural": NATURAL, str(tmp_path / "order.txt"): named}
    for order, classes in wanted.items():
        caplog.clear()
        with caplog.at_level("INFO", "kdbench"):
            data = load(tree, class_order=order) if order else load(tree)
        assert data.classes == classes
        assert pairs(data) == {(name, name) for name in NAMES}
        assert ("timm numbers its classes in another order" in caplog.text) == (order == "")
    assert load(tree, class_order=named).classes == named


def test_the_message_names_a_pair(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "kdbench"):
        load(tree)
    assert "'class10' is number 2 here (code points, as in torchvision), 'class2' is it there" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", "kdbench"):
        order_classes(["a", "b2", "b1"], "", "x")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("naturl", "'naturl' is none of code_point and natural, and no file (did you mean 'natural'?)"),
        (["class1", "class2", "class10", "Brid"], "names 'Brid', which is no class of folder"),
        (["class1", "class2", "class10"], "does not name class 'Bird' of folder"),
        (["class1", "class1", "class2", "class10", "Bird"], "names class 'class1' twice"),
        (3, "expects code_point, natural, a list of names or a file, got 3"),
    ],
)
def test_other_orders_are_refused(tree: Path, order, words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(tree, class_order=order)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_is_known_by_the_order_and_not_by_how_it_was_named(tree: Path, tmp_path: Path) -> None:
    def name_of(**options) -> str:
        cfg = config(tree, **options)
        return locate(cfg, build_data(cfg))[0].path.name

    plain, natural = name_of(), name_of(class_order="natural")
    assert plain != natural
    assert name_of(class_order="code_point") == plain
    (tmp_path / "a.txt").write_text("\n".join(NATURAL))
    assert name_of(class_order=str(tmp_path / "a.txt")) == natural
    assert name_of(class_order=NATURAL) == natural
