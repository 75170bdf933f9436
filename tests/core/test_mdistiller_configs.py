"""mdistiller's CIFAR-100 configurations, written out from a table: one file a method or pair, 27 of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import yaml

from kdbench.config import load_config
from kdbench.distillers.base import DataInfo
from kdbench.distillers.create import create_distiller
from kdbench.errors import ConfigError
from kdbench.models.zoo import create_model, find_entry

PAIRS = {
    "res56_res20": ("resnet56", "resnet20"),
    "res110_res32": ("resnet110", "resnet32"),
    "res32x4_res8x4": ("resnet32x4", "resnet8x4"),
    "res32x4_shuv1": ("resnet32x4", "ShuffleV1"),
    "res32x4_shuv2": ("resnet32x4", "ShuffleV2"),
    "res50_mv2": ("ResNet50", "MobileNetV2"),
    "vgg13_vgg8": ("vgg13", "vgg8"),
    "vgg13_mv2": ("vgg13", "MobileNetV2"),
    "wrn40_2_wrn16_2": ("wrn_40_2", "wrn_16_2"),
    "wrn40_2_wrn40_1": ("wrn_40_2", "wrn_40_1"),
    "wrn40_2_shuv1": ("wrn_40_2", "ShuffleV1"),
}
#: the method's node as its file has it
ONE_PAIR = {
    "NONE": {},
    "KD": {"TEMPERATURE": 4, "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9}},
    "AT": {"P": 2, "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1000.0}},
    "RKD": {"DISTANCE_WEIGHT": 25, "ANGLE_WEIGHT": 50, "PDIST": {"EPSILON": 1e-12, "SQUARED": False}},
    "FITNET": {"HINT_LAYER": 2, "INPUT_SIZE": [32, 32], "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 100.0}},
    "OFD": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 0.001}, "CONNECTOR": {"KERNEL_SIZE": 1}},
    "CRD": {
        "MODE": "exact",
        "FEAT": {"DIM": 128, "STUDENT_DIM": 256, "TEACHER_DIM": 256},
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 0.8},
        "NCE": {"K": 16384, "MOMENTUM": 0.5, "TEMPERATURE": 0.07},
    },
    "KDSVD": {"K": 1, "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0}},
    "NST": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 50.0}},
    "PKT": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 30000.0}},
    "SP": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 3000.0}},
    "VID": {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0}, "EPS": 1e-5, "INIT_PRED_VAR": 5.0, "INPUT_SIZE": [32, 32]},
}
ABSENT = ("KDSVD", "NST", "PKT", "SP", "VID")
DKD_BETA = {
    "res56_res20": 2.0,
    "res32x4_res8x4": 8.0,
    "res32x4_shuv1": 8.0,
    "res32x4_shuv2": 8.0,
    "vgg13_vgg8": 6.0,
    "vgg13_mv2": 6.0,
    "wrn40_2_wrn16_2": 6.0,
    "wrn40_2_shuv1": 6.0,
}
#: weight, SHAPES, OUT_SHAPES, IN_CHANNELS, OUT_CHANNELS
REVIEW = {
    "res56_res20": (0.6, [1, 8, 16, 32], [1, 8, 16, 32], [16, 32, 64, 64], [16, 32, 64, 64]),
    "res32x4_res8x4": (5.0, [1, 8, 16, 32], [1, 8, 16, 32], [64, 128, 256, 256], [64, 128, 256, 256]),
    "res32x4_shuv1": (5.0, [1, 4, 8, 16], [1, 8, 16, 32], [240, 480, 960, 960], [64, 128, 256, 256]),
    "res32x4_shuv2": (8.0, [1, 4, 8, 16], [1, 8, 16, 32], [116, 232, 464, 1024], [64, 128, 256, 256]),
    "vgg13_vgg8": (1.0, [1, 4, 4, 8, 16], [1, 4, 4, 8, 16], [128, 256, 512, 512, 512], [128, 256, 512, 512, 512]),
    "vgg13_mv2": (8.0, [1, 2, 4, 8, 16], [1, 4, 4, 8, 16], [12, 16, 48, 160, 1280], [128, 256, 512, 512, 512]),
    "wrn40_2_wrn16_2": (5.0, [1, 8, 16, 32], [1, 8, 16, 32], [32, 64, 128, 128], [32, 64, 128, 128]),
}
SOLVER = {
    "BATCH_SIZE": 64,
    "EPOCHS": 240,
    "LR": 0.05,
    "LR_DECAY_STAGES": [150, 180, 210],
    "LR_DECAY_RATE": 0.1,
    "WEIGHT_DECAY": 0.0005,
    "MOMENTUM": 0.9,
    "TYPE": "SGD",
}
#: what mdistiller's defaults hold beside the methods
DEFAULTS = {
    "EXPERIMENT": {"PROJECT": "distill", "NAME": "", "TAG": "default"},
    "DATASET": {"TYPE": "cifar100", "NUM_WORKERS": 2, "TEST": {"BATCH_SIZE": 64}},
    "DISTILLER": {"TYPE": "NONE", "TEACHER": "ResNet50", "STUDENT": "resnet32"},
    "SOLVER": {"TRAINER": "base", **SOLVER, "DOT": {"DELTA": 0.075}},
    "LOG": {"TENSORBOARD_FREQ": 500, "SAVE_CHECKPOINT_FREQ": 40, "PREFIX": "./output", "WANDB": True},
}


def configuration(method: str, pair: str, node: dict) -> dict:
    teacher, student = PAIRS[pair]
    # Mobile networks and ShuffleNets start lower.
    rate = 0.01 if student.startswith(("Mobile", "Shuffle")) else 0.05
    tree = {
        "EXPERIMENT": {"NAME": "", "TAG": f"{method.lower()},{pair}", "PROJECT": "cifar100_baselines"},
        "DISTILLER": {"TYPE": method, "TEACHER": "" if method == "NONE" else teacher, "STUDENT": student},
        "SOLVER": {**SOLVER, "LR": rate},
    }
    return {**tree, **({method: node} if node else {})}


def files() -> dict[str, dict]:
    found = {
        f"{method.lower()}.yaml": configuration(method, "res32x4_res8x4", node) for method, node in ONE_PAIR.items()
    }
    for pair, beta in DKD_BETA.items():
        node = {"CE_WEIGHT": 1.0, "ALPHA": 1.0, "BETA": beta, "T": 4.0, "WARMUP": 20}
        found[f"dkd/{pair}.yaml"] = configuration("DKD", pair, node)
    for pair, (weight, shapes, out_shapes, inputs, outputs) in REVIEW.items():
        node = {
            "REVIEWKD_WEIGHT": weight,
            "WARMUP_EPOCHS": 20,
            "SHAPES": shapes,
            "OUT_SHAPES": out_shapes,
            "IN_CHANNELS": inputs,
            "OUT_CHANNELS": outputs,
            "MAX_MID_CHANNEL": 512,
        }
        found[f"reviewkd/{pair}.yaml"] = configuration("REVIEWKD", pair, node)
    return found


FILES = files()


def write(folder: Path, tree: dict) -> Path:
    path = folder / "mdistiller.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def test_there_are_27() -> None:
    assert len(FILES) == 27


@pytest.mark.parametrize("name", [name for name, tree in FILES.items() if tree["DISTILLER"]["TYPE"] not in ABSENT])
def test_it_loads_and_its_method_is_built_for_its_pair(name: str, tmp_path: Path) -> None:
    tree = FILES[name]
    cfg = load_config(write(tmp_path, tree))
    method = tree["DISTILLER"]["TYPE"]
    assert cfg.DISTILLER.TYPE.upper() == {"NONE": "VANILLA"}.get(method, method)
    assert tree["SOLVER"]["LR"] == cfg.SOLVER.LR
    assert cfg.SOLVER.LR_DECAY_STAGES == (150, 180, 210)
    student = create_model(cfg.DISTILLER.STUDENT, num_classes=100, data_size=32, seed=0).spec
    teacher = (
        create_model(cfg.DISTILLER.TEACHER, num_classes=100, data_size=32, seed=0).spec if method != "NONE" else None
    )
    data = DataInfo(100, 50, torch.arange(50))
    assert create_distiller(cfg.DISTILLER.TYPE, student, teacher, cfg, data=data).name == cfg.DISTILLER.TYPE


@pytest.mark.parametrize("method", ABSENT)
def test_a_method_that_is_not_here_is_no_typo(method: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{method} is a method of mdistiller that kdbench does not have"):
        load_config(write(tmp_path, FILES[f"{method.lower()}.yaml"]))


@pytest.mark.parametrize("tree", FILES.values(), ids=FILES)
def test_its_networks_have_names_here(tree: dict) -> None:
    for name in (tree["DISTILLER"]["TEACHER"], tree["DISTILLER"]["STUDENT"]):
        if name:
            assert find_entry(name, 32).input_size == 32


def test_all_of_its_keys_are_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its whole tree of defaults, with every method's node, loads; what means nothing here is said to be ignored."""
    dkd = {"CE_WEIGHT": 1.0, "ALPHA": 1.0, "BETA": 8.0, "T": 4.0, "WARMUP": 20}
    review = {"CE_WEIGHT": 1.0, **FILES["reviewkd/res32x4_res8x4.yaml"]["REVIEWKD"], "STU_PREACT": False}
    nodes = {method: node for method, node in ONE_PAIR.items() if node}
    rkd = {**nodes["RKD"], "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0}}
    tree = {**DEFAULTS, **nodes, "RKD": rkd, "DKD": dkd, "REVIEWKD": review}
    tree = {**tree, "EXPERIMENT": {**DEFAULTS["EXPERIMENT"], "PROJECT": "mine"}}
    tree["SOLVER"] = {**DEFAULTS["SOLVER"], "TRAINER": "crd", "DOT": {"DELTA": 0.05}}
    tree["LOG"] = {**DEFAULTS["LOG"], "SAVE_CHECKPOINT_FREQ": 20}
    with caplog.at_level(logging.INFO, logger="kdbench"):
        cfg = load_config(write(tmp_path, tree))
    assert cfg.DISTILLER.STUDENT == "resnet32"
    for key in ("LOG.WANDB", "LOG.SAVE_CHECKPOINT_FREQ", "SOLVER.TRAINER", "SOLVER.DOT.DELTA", "EXPERIMENT.PROJECT"):
        assert any(key in line and "ignored" in line for line in caplog.messages), key


def test_a_typo_in_such_a_file_is_still_found(tmp_path: Path) -> None:
    tree = FILES["kd.yaml"] | {"KD": {"TEMPRATURE": 4}}
    with pytest.raises(ConfigError, match=r"TEMPRATURE.*did you mean 'TEMPERATURE'"):
        load_config(write(tmp_path, tree))
