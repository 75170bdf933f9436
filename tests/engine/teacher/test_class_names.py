"""Whose classes a file of weights knows: its outputs are brought into the data set's order by their names, or it is refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from replicas import class_tree
from safetensors import safe_open

import kdbench
from kdbench.data.build import build_data
from kdbench.data.loader import TrainLoader
from kdbench.data.teacher_cache.cache import cache_folders
from kdbench.engine.parts import build_network, make_loader
from kdbench.engine.runtime import Runtime
from kdbench.engine.session.locate import locate
from kdbench.engine.teacher.source import TeacherSource
from kdbench.errors import ModelError
from kdbench.models.weights.export import save_student
from kdbench.models.zoo import create_model

NAMES = ["class1", "class10", "class2"]
NATURAL = ["class1", "class2", "class10"]
NORM = ((0.5,) * 3, (0.25,) * 3)
CPU = Runtime(torch.device("cpu"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_tree(tmp_path_factory.mktemp("set"), NAMES, {"train": 6, "val": 3})


def config(tree: Path, folder: Path, **extra: Any) -> Any:
    named = {
        "DATASET.TYPE": f"folder:{tree}",
        "DATASET.IMAGE_SIZE": 16,
        "DATASET.NUM_WORKERS": 0,
        "DISTILLER.TYPE": "KD",
        "DISTILLER.STUDENT": "small_cnn",
        "DISTILLER.TEACHER": "small_cnn",
        "TEACHER.FLOOR": 0.0,
        "SOLVER.EPOCHS": 1,
        "SOLVER.BATCH_SIZE": 6,
        "LOG.PREFIX": str(folder),
    }
    return kdbench.load_config(overrides={**named, **{k.replace("__", "."): v for k, v in extra.items()}})


def export(path: Path, classes: list[str] | None, num_classes: int = 3) -> tuple[str, torch.nn.Module]:
    network = create_model("small_cnn", num_classes=num_classes, seed=5).backbone
    save_student(path, network, {"statistics": NORM, **({} if classes is None else {"classes": classes})})
    return str(path), network


def test_every_run_names_its_classes(tree: Path, tmp_path: Path) -> None:
    cfg = config(
        tree, tmp_path, DISTILLER__TYPE="NONE", DISTILLER__TEACHER="", DATASET__OPTIONS={"class_order": "natural"}
    )
    result = kdbench.train(cfg)
    assert result.classes == NATURAL
    assert json.loads((Path(result.folder) / "result.json").read_text())["classes"] == NATURAL
    with safe_open(Path(result.folder) / "student.safetensors", "pt") as file:
        assert json.loads(file.metadata()["kdbench"])["classes"] == NATURAL
    # the same figure under the other order: the outputs follow the names
    other = config(tree, tmp_path, DISTILLER__TYPE="NONE", DISTILLER__TEACHER="")
    score = kdbench.evaluate(other, str(Path(result.folder) / "student.safetensors"))
    assert (score.top1, score.loss) == (result.top1_last, pytest.approx(score.loss))
    assert score.top1 == kdbench.evaluate(cfg, str(Path(result.folder) / "student.safetensors")).top1


def test_a_teachers_outputs_follow_its_names(tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, network = export(tmp_path / "t.safetensors", NATURAL)
    cfg = config(tree, tmp_path, TEACHER__WEIGHTS=file)
    with caplog.at_level("INFO", "kdbench"):
        teacher = build_network(cfg, "TEACHER", build_data(cfg))
    assert "its outputs are brought into the order of the data set's classes" in caplog.text
    images = torch.rand(4, 3, 16, 16)
    own = network.eval()((images - 0.5) / 0.25)
    places = [NATURAL.index(name) for name in NAMES]
    torch.testing.assert_close(teacher.eval()(images).logits, own[:, places])
    for unnamed in (None, NAMES):
        file, _ = export(tmp_path / "u.safetensors", unnamed)
        plain = build_network(config(tree, tmp_path, TEACHER__WEIGHTS=file), "TEACHER", build_data(cfg))
        torch.testing.assert_close(plain.eval()(images).logits, own)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["class1", "class2", "class3"], "it knows 'class3', which the data set does not have (1 and 1 names differ)"),
        (["class1", "class2"], "it does not know 'class10'"),
        (["class1", "class2", "class2"], "it does not know 'class10'"),
        (["class1", "class2", "class10", "class2"], "it names a class twice"),
    ],
)
def test_other_classes_are_refused(tree: Path, tmp_path: Path, classes: list[str], words: str) -> None:
    file, _ = export(tmp_path / "t.safetensors", classes)
    with pytest.raises(ModelError) as caught:
        kdbench.train(config(tree, tmp_path / "runs", TEACHER__WEIGHTS=file))
    assert "was trained on other classes than the data set's: " + words in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_start_for_other_classes_is_no_error(tree: Path, tmp_path: Path) -> None:
    file, network = export(tmp_path / "t.safetensors", ["cat", "dog", "cow"])
    cfg = config(tree, tmp_path, STUDENT__WEIGHTS=file, STUDENT__HEAD="reset")
    student = build_network(cfg, "STUDENT", build_data(cfg), seed=1)
    assert torch.equal(student.backbone.stages[0][0].weight, network.stages[0][0].weight)


def timm_file(folder: Path, class_map: str) -> str:
    network = create_model("small_cnn", num_classes=3, seed=5).backbone
    args = argparse.Namespace(
        model="mine", mean=[0.5] * 3, std=[0.25] * 3, img_size=16, input_size=None, class_map=class_map
    )
    folder.mkdir(exist_ok=True)
    torch.save({"arch": "mine", "args": args, "state_dict": network.state_dict()}, folder / "w.pth.tar")
    return str(folder / "w.pth.tar")


def name_of(cfg: Any) -> str:
    return locate(cfg, build_data(cfg))[0].path.name


def test_timms_class_map_is_found_beside_the_weights(
    tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = timm_file(tmp_path / "timm", "/data/maps/classes.txt")
    cfg = config(tree, tmp_path, TEACHER__WEIGHTS=file)
    plain, own = build_network(cfg, "TEACHER", build_data(cfg)), name_of(cfg)
    assert (
        "class map '/data/maps/classes.txt', which is not here: its outputs are taken to be in the data set's order"
        in caplog.text
    )
    (tmp_path / "timm" / "classes.txt").write_text("\n".join(NATURAL) + "\n")
    mapped = build_network(cfg, "TEACHER", build_data(cfg))
    images = torch.rand(4, 3, 16, 16)
    places = [NATURAL.index(name) for name in NAMES]
    torch.testing.assert_close(mapped.eval()(images).logits, plain.eval()(images).logits[:, places])
    assert name_of(cfg) != own  # the map is no part of the file
    assert source_of(cfg).key_parts["order"]
    assert name_of(config(tree, tmp_path, TEACHER__WEIGHTS=file, DISTILLER__TYPE="NONE")) == name_of(
        config(tree, tmp_path, TEACHER__WEIGHTS="elsewhere.pth", DISTILLER__TYPE="NONE")
    )
    (tmp_path / "timm" / "classes.txt").write_text("\n".join(NAMES) + "\n")
    assert name_of(cfg) == own
    (tmp_path / "timm" / "classes.txt").write_text("\n".join(["x", *NAMES[1:]]) + "\n")
    with pytest.raises(ModelError, match="it knows 'x', which the data set does not have"):
        name_of(cfg)
    pickled = timm_file(tmp_path / "pickled", "classes.pkl")
    (tmp_path / "pickled" / "classes.pkl").write_bytes(b"\x80\x04")
    build_network(config(tree, tmp_path, TEACHER__WEIGHTS=pickled), "TEACHER", build_data(cfg))
    assert "class map 'classes.pkl', which is no text file and is not read" in caplog.text


def source_of(cfg: Any) -> TeacherSource:
    data = build_data(cfg)
    loader: TrainLoader = make_loader(cfg, data, CPU)
    return TeacherSource(cfg, data, loader, CPU, locate(cfg, data)[1]["teacher_sha256"])


def test_cached_outputs_are_in_the_order_of_the_data_set(tree: Path, tmp_path: Path) -> None:
    file, _ = export(tmp_path / "t.safetensors", NATURAL)
    cached = {
        "TEACHER__WEIGHTS": file,
        "CACHE__ENABLED": True,
        "CACHE__DIR": str(tmp_path / "cache"),
        "CACHE__DTYPE": "fp32",
    }
    runs = {}
    for order in ("code_point", "natural"):
        cfg = config(tree, tmp_path / order, **cached, DATASET__OPTIONS={"class_order": order})
        result = kdbench.train(cfg)
        runs[order] = source_of(cfg)
        live = kdbench.train(
            config(tree, tmp_path / f"{order}-live", TEACHER__WEIGHTS=file, DATASET__OPTIONS={"class_order": order})
        )
        assert live.top1_last == result.top1_last
        assert live.teacher_top1 == result.teacher_top1
    assert len(cache_folders(tmp_path / "cache")) == 2
    assert runs["code_point"].gate_key != runs["natural"].gate_key
    views = [next(folder.glob("view*.bin")).read_bytes() for folder in cache_folders(tmp_path / "cache")]
    assert views[0] != views[1]
