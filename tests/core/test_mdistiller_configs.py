"""mdistiller's 42 configuration files (27 for CIFAR-100, 13 for ImageNet, 2 for Tiny ImageNet; mdistiller@a08d46f), written out
from a table: each resolves key by key, and trains two steps."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import kdbench
from kdbench.config.defaults import IGNORED
from kdbench.config.load import load_config
from kdbench.distillers.base import DataInfo
from kdbench.distillers.create import create_distiller
from kdbench.errors import ConfigError
from kdbench.models.names import find_entry
from kdbench.models.zoo import create_model

#: short name of a pair -> teacher and student
PAIRS = {
    "res56,res20": ("resnet56", "resnet20"),
    "res110,res32": ("resnet110", "resnet32"),
    "res32x4,res8x4": ("resnet32x4", "resnet8x4"),
    "res32x4,shuv1": ("resnet32x4", "ShuffleV1"),
    "res32x4,shuv2": ("resnet32x4", "ShuffleV2"),
    "res50,mv2": ("ResNet50", "MobileNetV2"),
    "vgg13,vgg8": ("vgg13", "vgg8"),
    "vgg13,mv2": ("vgg13", "MobileNetV2"),
    "wrn_40_2,wrn_16_2": ("wrn_40_2", "wrn_16_2"),
    "wrn_40_2,wrn_40_1": ("wrn_40_2", "wrn_40_1"),
    "wrn_40_2,shuv1": ("wrn_40_2", "ShuffleV1"),
    "res34,res18": ("ResNet34", "ResNet18"),
    "res50,mobilenetv1": ("ResNet50", "MobileNetV1"),
    "r18,mv2": ("ResNet18", "MobileNetV2"),
    "r18,shuv2": ("ResNet18", "ShuffleV2"),
}
R34, R50 = "res34,res18", "res50,mobilenetv1"
KD_IMAGENET = {"TEMPERATURE": 1, "LOSS": {"CE_WEIGHT": 0.5, "KD_WEIGHT": 0.5}}
REVIEW_IMAGENET = {
    "CE_WEIGHT": 1.0,
    "WARMUP_EPOCHS": 1,
    "SHAPES": [1, 7, 14, 28, 56],
    "OUT_SHAPES": [1, 7, 14, 28, 56],
    "STU_PREACT": True,
}
BATCH_RATE = {512: 0.2, 256: 0.1, 128: 0.05}
#: file -> (method, pair, node of the method, batch size)
CIFAR: dict[str, tuple[str, str, dict[str, Any], int]] = {
    **{
        f"{m.lower()}.yaml": (m, "res32x4,res8x4", {}, 64)
        for m in ("AT", "CRD", "FITNET", "KD", "KDSVD", "NST", "OFD", "PKT", "RKD", "SP", "VID")
    },
    "reviewkd.yaml": ("REVIEWKD", "res32x4,res8x4", {"REVIEWKD_WEIGHT": 5.0}, 64),
    "vanilla.yaml": ("NONE", "res32x4,res8x4", {}, 64),
    "dkd/res110_res32.yaml": ("DKD", "res110,res32", {"BETA": 2.0}, 64),
    "dkd/res32x4_res8x4.yaml": ("DKD", "res32x4,res8x4", {}, 64),
    "dkd/res32x4_shuv1.yaml": ("DKD", "res32x4,shuv1", {}, 64),
    "dkd/res32x4_shuv2.yaml": ("DKD", "res32x4,shuv2", {}, 64),
    "dkd/res50_mv2.yaml": ("DKD", "res50,mv2", {}, 64),
    "dkd/res56_res20.yaml": ("DKD", "res56,res20", {"BETA": 2.0}, 64),
    "dkd/vgg13_mv2.yaml": ("DKD", "vgg13,mv2", {"BETA": 6.0}, 64),
    "dkd/vgg13_vgg8.yaml": ("DKD", "vgg13,vgg8", {"BETA": 6.0}, 64),
    "dkd/wrn40_2_shuv1.yaml": ("DKD", "wrn_40_2,shuv1", {}, 64),
    "dkd/wrn40_2_wrn_16_2.yaml": ("DKD", "wrn_40_2,wrn_16_2", {"BETA": 6.0}, 64),
    "dkd/wrn40_2_wrn_40_1.yaml": ("DKD", "wrn_40_2,wrn_40_1", {"BETA": 6.0}, 64),
    "dot/res32x4_res8x4.yaml": ("KD", "res32x4,res8x4", {}, 64),
    "dot/res32x4_shuv2.yaml": ("KD", "res32x4,shuv2", {}, 64),
    "dot/vgg13_vgg8.yaml": ("KD", "vgg13,vgg8", {}, 64),
}
IMAGENET: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "r34_r18/at.yaml": ("AT", R34, {}, 512),
    "r34_r18/crd.yaml": ("CRD", R34, {"FEAT": {"STUDENT_DIM": 512, "TEACHER_DIM": 512}}, 256),
    "r34_r18/dkd.yaml": ("DKD", R34, {"CE_WEIGHT": 1.0, "BETA": 0.5, "T": 1.0, "WARMUP": 1}, 512),
    "r34_r18/dot.yaml": ("KD", R34, KD_IMAGENET, 512),
    "r34_r18/kd.yaml": ("KD", R34, KD_IMAGENET, 512),
    "r34_r18/reviewkd.yaml": (
        "REVIEWKD",
        R34,
        {
            **REVIEW_IMAGENET,
            "REVIEWKD_WEIGHT": 1.0,
            "IN_CHANNELS": [64, 128, 256, 512, 512],
            "OUT_CHANNELS": [64, 128, 256, 512, 512],
        },
        256,
    ),
    "r50_mv1/at.yaml": ("AT", R50, {}, 512),
    "r50_mv1/crd.yaml": ("CRD", R50, {"FEAT": {"STUDENT_DIM": 1024, "TEACHER_DIM": 2048}}, 256),
    "r50_mv1/dkd.yaml": ("DKD", R50, {"CE_WEIGHT": 1.0, "BETA": 2.0, "T": 1.0, "WARMUP": 1}, 512),
    "r50_mv1/dot.yaml": ("KD", R50, KD_IMAGENET, 512),
    "r50_mv1/kd.yaml": ("KD", R50, KD_IMAGENET, 512),
    "r50_mv1/ofd.yaml": ("OFD", R50, {"LOSS": {"FEAT_WEIGHT": 1e-4}}, 128),
    "r50_mv1/reviewkd.yaml": (
        "REVIEWKD",
        R50,
        {
            **REVIEW_IMAGENET,
            "REVIEWKD_WEIGHT": 8.0,
            "IN_CHANNELS": [128, 256, 512, 1024, 1024],
            "OUT_CHANNELS": [256, 512, 1024, 2048, 2048],
            "MAX_MID_CHANNEL": 256,
        },
        256,
    ),
}
TINY: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "dot/r18_mv2.yaml": ("KD", "r18,mv2", {}, 256),
    "dot/r18_shuv2.yaml": ("KD", "r18,shuv2", {}, 256),
}
#: what mdistiller's own defaults hold
DEFAULTS: dict[str, Any] = {
    "EXPERIMENT": {"PROJECT": "distill", "NAME": "", "TAG": "default"},
    "DATASET": {"TYPE": "cifar100", "NUM_WORKERS": 2, "TEST": {"BATCH_SIZE": 64}},
    "DISTILLER": {"TYPE": "NONE", "TEACHER": "ResNet50", "STUDENT": "resnet32"},
    "SOLVER": {
        "TRAINER": "base",
        "BATCH_SIZE": 64,
        "EPOCHS": 240,
        "LR": 0.05,
        "LR_DECAY_STAGES": [150, 180, 210],
        "LR_DECAY_RATE": 0.1,
        "WEIGHT_DECAY": 0.0001,
        "MOMENTUM": 0.9,
        "TYPE": "SGD",
        "DOT": {"DELTA": 0.075},
    },
    "LOG": {"TENSORBOARD_FREQ": 500, "SAVE_CHECKPOINT_FREQ": 40, "PREFIX": "./output", "WANDB": True},
    "KD": {"TEMPERATURE": 4, "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9}},
    "AT": {"P": 2, "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1000.0}},
    "RKD": {
        "DISTANCE_WEIGHT": 25,
        "ANGLE_WEIGHT": 50,
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0},
        "PDIST": {"EPSILON": 1e-12, "SQUARED": False},
    },
    "FITNET": {"HINT_LAYER": 2, "INPUT_SIZE": [32, 32], "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 100.0}},
    "OFD": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 0.001}, "CONNECTOR": {"KERNEL_SIZE": 1}},
    "CRD": {
        "MODE": "exact",
        "FEAT": {"DIM": 128, "STUDENT_DIM": 256, "TEACHER_DIM": 256},
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 0.8},
        "NCE": {"K": 16384, "MOMENTUM": 0.5, "TEMPERATURE": 0.07},
    },
    "REVIEWKD": {
        "CE_WEIGHT": 1.0,
        "REVIEWKD_WEIGHT": 1.0,
        "WARMUP_EPOCHS": 20,
        "SHAPES": [1, 8, 16, 32],
        "OUT_SHAPES": [1, 8, 16, 32],
        "IN_CHANNELS": [64, 128, 256, 256],
        "OUT_CHANNELS": [64, 128, 256, 256],
        "MAX_MID_CHANNEL": 512,
        "STU_PREACT": False,
    },
    "DKD": {"CE_WEIGHT": 1.0, "ALPHA": 1.0, "BETA": 8.0, "T": 4.0, "WARMUP": 20},
    "KDSVD": {"K": 1, "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0}},
    "NST": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 50.0}},
    "PKT": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 30000.0}},
    "SP": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 3000.0}},
    "VID": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0}, "EPS": 1e-5, "INIT_PRED_VAR": 5.0, "INPUT_SIZE": [32, 32]},
}


def configuration(kind: str, file: str, method: str, pair: str, node: dict[str, Any], batch: int) -> dict[str, Any]:
    """What a file holds."""
    teacher, student = PAIRS[pair]
    dot = "dot" in file
    solver: dict[str, Any] = {"BATCH_SIZE": batch, "LR_DECAY_RATE": 0.1, "MOMENTUM": 0.9, "TYPE": "SGD"}
    data: dict[str, Any] = {}
    if kind == "cifar100":
        # mobile networks and ShuffleNets start lower
        rate = 0.01 if student.startswith(("Mobile", "Shuffle")) else 0.05
        solver |= {"EPOCHS": 240, "LR": rate, "LR_DECAY_STAGES": [150, 180, 210], "WEIGHT_DECAY": 5e-4}
    elif kind == "imagenet":
        solver |= {"EPOCHS": 100, "LR": BATCH_RATE[batch], "LR_DECAY_STAGES": [30, 60, 90], "WEIGHT_DECAY": 1e-4}
        data = {
            "DATASET": {"TYPE": kind, "NUM_WORKERS": 32, "TEST": {"BATCH_SIZE": 128}},
            "LOG": {"TENSORBOARD_FREQ": 50, "SAVE_CHECKPOINT_FREQ": 10},
        }
    else:
        solver |= {"EPOCHS": 200, "LR": 0.2, "LR_DECAY_STAGES": [60, 120, 160], "WEIGHT_DECAY": 5e-4}
        data = {"DATASET": {"TYPE": kind, "NUM_WORKERS": 16}}
    if dot:
        solver |= {"TRAINER": "dot", "DOT": {"DELTA": 0.09 if kind == "imagenet" else 0.075}}
    elif method == "CRD":
        solver |= {"TRAINER": "crd"}
    name = {"NONE": "vanilla"}.get(method, method.lower())
    short = {"cifar100": "cifar", "imagenet": "imagenet", "tiny_imagenet": "tinyimagenet"}[kind]
    project = f"dot_{short}" if dot else f"{kind}_baselines"
    tree = {
        "EXPERIMENT": {"NAME": "", "TAG": f"{name}{',dot' if dot else ''},{pair}", "PROJECT": project},
        "DISTILLER": {"TYPE": method, "TEACHER": teacher, "STUDENT": student},
        "SOLVER": solver,
        **data,
    }
    return {**tree, **({method: node} if node else {})}


FILES = {
    f"{kind}/{file}": configuration(kind, file, *row)
    for kind, table in (("cifar100", CIFAR), ("imagenet", IMAGENET), ("tiny_imagenet", TINY))
    for file, row in table.items()
}


def write(folder: Path, tree: dict[str, Any]) -> Path:
    path = folder / "mdistiller.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", tuple(value) if isinstance(value, list) else value


@functools.cache
def spec(name: str, classes: int, side: int) -> Any:
    return create_model(name, num_classes=classes, data_size=side, seed=0).spec


def test_there_are_42() -> None:
    counts = [sum(name.startswith(f"{kind}/") for name in FILES) for kind in ("cifar100", "imagenet", "tiny_imagenet")]
    assert counts == [27, 13, 2]


@pytest.mark.parametrize("name", FILES)
def test_it_resolves_key_by_key(name: str, tmp_path: Path) -> None:
    tree = FILES[name]
    method = tree["DISTILLER"]["TYPE"]
    cfg = dict(leaves(load_config(write(tmp_path, tree))))
    expected = {**dict(leaves(tree)), "DISTILLER.TYPE": {"NONE": "Vanilla"}.get(method, method)}
    # what the file leaves open stands at mdistiller's default, but for the folder and the tracker
    used = {key: DEFAULTS[key] for key in ("DATASET", "SOLVER", "LOG", method) if key in DEFAULTS}
    open_keys = {
        key: value for key, value in leaves(used) if key not in expected and key not in ("LOG.PREFIX", "LOG.WANDB")
    }
    assert {key: cfg[key] for key in {**open_keys, **expected}} == {**open_keys, **expected}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("cifar100/", "imagenet/r34_r18/"))])
def test_its_method_is_built_for_its_pair(name: str, tmp_path: Path) -> None:
    tree = FILES[name]
    cfg = load_config(write(tmp_path, tree))
    classes, side = (100, 32) if name.startswith("cifar100") else (1000, 224)
    teacher, student = (spec(cfg.DISTILLER[role], classes, side) for role in ("TEACHER", "STUDENT"))
    data = DataInfo(classes, 2 * classes, torch.arange(2 * classes) % classes)
    taught = tree["DISTILLER"]["TYPE"] != "NONE"
    method = create_distiller(cfg.DISTILLER.TYPE, student, teacher if taught else None, cfg, data=data)
    assert method.name == cfg.DISTILLER.TYPE


@pytest.mark.parametrize("name", FILES)
def test_its_networks_have_names_here(name: str) -> None:
    side = {"cifar100": 32, "imagenet": 224, "tiny_imagenet": 64}[name.partition("/")[0]]
    for role in ("TEACHER", "STUDENT"):
        found = find_entry(FILES[name]["DISTILLER"][role], side).input_size
        assert found == side or name.startswith("tiny_imagenet/")


def test_all_of_its_keys_are_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its whole tree of defaults, with every method's node, loads; what means nothing here is said to be ignored."""
    tree = {**DEFAULTS, "EXPERIMENT": {**DEFAULTS["EXPERIMENT"], "PROJECT": "mine"}}
    tree["SOLVER"] = {**DEFAULTS["SOLVER"], "TRAINER": "crd"}
    tree["LOG"] = {**DEFAULTS["LOG"], "SAVE_CHECKPOINT_FREQ": 20}
    with caplog.at_level(logging.INFO, logger="kdbench"):
        cfg = load_config(write(tmp_path, tree))
    assert cfg.DISTILLER.STUDENT == "resnet32"
    for key in IGNORED:
        assert any(key in line and "ignored" in line for line in caplog.messages), key


def test_a_typo_in_such_a_file_is_still_found(tmp_path: Path) -> None:
    tree = FILES["cifar100/kd.yaml"] | {"KD": {"TEMPRATURE": 4}}
    with pytest.raises(ConfigError, match=r"TEMPRATURE.*did you mean 'TEMPERATURE'"):
        load_config(write(tmp_path, tree))


#: ReviewKD's settings for more pairs: weight, SHAPES, OUT_SHAPES, IN_CHANNELS, OUT_CHANNELS, which come from the networks here
REVIEW = {
    "res56,res20": (0.6, [1, 8, 16, 32], [1, 8, 16, 32], [16, 32, 64, 64], [16, 32, 64, 64]),
    "res32x4,shuv1": (5.0, [1, 4, 8, 16], [1, 8, 16, 32], [240, 480, 960, 960], [64, 128, 256, 256]),
    "res32x4,shuv2": (8.0, [1, 4, 8, 16], [1, 8, 16, 32], [116, 232, 464, 1024], [64, 128, 256, 256]),
    "vgg13,vgg8": (1.0, [1, 4, 4, 8, 16], [1, 4, 4, 8, 16], [128, 256, 512, 512, 512], [128, 256, 512, 512, 512]),
    "vgg13,mv2": (8.0, [1, 2, 4, 8, 16], [1, 4, 4, 8, 16], [12, 16, 48, 160, 1280], [128, 256, 512, 512, 512]),
    "wrn_40_2,wrn_16_2": (5.0, [1, 8, 16, 32], [1, 8, 16, 32], [32, 64, 128, 128], [32, 64, 128, 128]),
}


@pytest.mark.parametrize("pair", REVIEW)
def test_reviewkd_with_shapes_of_a_pair(pair: str, tmp_path: Path) -> None:
    keys = ("REVIEWKD_WEIGHT", "SHAPES", "OUT_SHAPES", "IN_CHANNELS", "OUT_CHANNELS")
    tree = configuration("cifar100", "reviewkd.yaml", "REVIEWKD", pair, dict(zip(keys, REVIEW[pair])), 64)
    cfg = load_config(write(tmp_path, tree))
    teacher, student = (spec(name, 100, 32) for name in PAIRS[pair])
    method = create_distiller("REVIEWKD", student, teacher, cfg, data=DataInfo(100, 50, torch.arange(50)))
    assert REVIEW[pair][0] == method.cfg.REVIEWKD_WEIGHT


#: the student alone, logits, features, a memory bank, maps of several stages, two gradients
USUAL = {f"cifar100/{name}.yaml" for name in ("vanilla", "kd", "at", "crd", "reviewkd", "dot/res32x4_res8x4")}
#: images of a data set: classes, pixels a side
IMAGES = {"cifar100": (100, 32), "imagenet": (1000, 224), "tiny_imagenet": (200, 64)}
BATCH = 4


def small(folder: Path, name: str) -> Any:
    """The file's configuration on random images; epochs and their milestones are not those of the file."""
    classes, side = IMAGES[name.partition("/")[0]]
    data = {"num_classes": classes, "size": side, "train": 2 * BATCH, "test": BATCH}
    settings = {
        "DATASET.TYPE": "fake",
        "DATASET.OPTIONS": data,
        "DATASET.NUM_WORKERS": 0,
        "DATASET.TEST.BATCH_SIZE": BATCH,
    }
    settings |= {"SOLVER.BATCH_SIZE": BATCH, "SOLVER.EPOCHS": 1, "SOLVER.LR_DECAY_STAGES": [], "SOLVER.LR": 1e-4}
    settings |= {"AUGMENT.CROP": "none", "LOG.PREFIX": str(folder / "runs"), "LOG.TRACKERS": []}
    tree = {key: value for key, value in FILES[name].items() if key != "LOG"}
    return kdbench.load_config(write(folder, tree), overrides=settings)


@pytest.mark.parametrize("name", [n if n in USUAL else pytest.param(n, marks=pytest.mark.slow) for n in FILES])
def test_it_trains_two_steps(name: str, tmp_path: Path) -> None:
    steps: list[tuple[int, int, int]] = []
    cfg = small(tmp_path, name)
    result = kdbench.train(cfg, progress=lambda *at: steps.append(at))
    assert steps == [(1, 1, 2), (1, 2, 2)]
    assert result.method == cfg.DISTILLER.TYPE
    (line,) = [json.loads(text) for text in (Path(result.folder) / "metrics.jsonl").read_text().splitlines()]
    assert len(line["train"]) > (FILES[name]["DISTILLER"]["TYPE"] != "NONE")
    assert any(value > 0 for value in line["train"].values())
