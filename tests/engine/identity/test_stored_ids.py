"""Names of runs as they have been since their configurations were first accepted: what is on disk is found again.

``python tests/engine/identity/test_stored_ids.py`` writes ``stored_ids.json`` anew. That is right only where a run's meaning has
changed, or after a line was added to ``CONFIGURATIONS``; a name that changes for another reason is the fault that this file finds.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from kdbench.bench.grids.grid_file import load_grid
from kdbench.config.identity import decisive
from kdbench.config.load import load_config
from kdbench.data.build import build_data
from kdbench.distillers.base import distillers
from kdbench.engine.identity.name import run_name
from kdbench.engine.session.locate import locate

STORED = Path(__file__).with_name("stored_ids.json")
#: what is in the file that stands for a teacher's or student's weights; a name depends on the bytes, not on their meaning
WEIGHTS = save({"weight": torch.zeros(1)})
FILE = "{weights}"
DIGITS = "configs/digits/student.yaml"
FAKE: dict[str, Any] = {
    "DATASET.TYPE": "fake",
    "DATASET.OPTIONS": {"train": 40, "test": 20, "size": 16, "num_classes": 5},
}
TAUGHT: dict[str, Any] = {"DISTILLER.TEACHER": "small_mixer", "TEACHER.WEIGHTS": FILE}
RANDOM = {**FAKE, "DISTILLER.TEACHER": "resnet32x4", "DISTILLER.STUDENT": "resnet8x4", "TEACHER.WEIGHTS": FILE}


def _configurations() -> dict[str, tuple[str | None, dict[str, Any]]]:
    """Name -> (file, overrides)."""
    found: dict[str, tuple[str | None, dict[str, Any]]] = {}
    for name in distillers.names():
        if distillers.get(name).__module__.startswith("kdbench."):
            teacher = TAUGHT if distillers.get(name).uses_teacher else {}
            found[f"digits, {name}"] = (DIGITS, {"DISTILLER.TYPE": name, **teacher})
    for name in ("KD", "DKD", "REVIEWKD", "CRD", "HCD"):
        found[f"random, {name}"] = (None, {"DISTILLER.TYPE": name, **RANDOM})
    presets = {
        "DKD": "heterogeneous",
        "KD": "imagenet",
        "WTTM": "vgg13_mv2",
        "CATKD": "res32x4_shuv1",
        "HCD": "release",
    }
    for name, preset in presets.items():
        found[f"preset {name} {preset}"] = (DIGITS, {"DISTILLER.TYPE": name, "DISTILLER.PRESET": preset, **TAUGHT})
    options = {
        "two gradients": {"DISTILLER.TYPE": "KD", "SOLVER.TYPE": "SGD", "SOLVER.TRAINER": "dot", "SOLVER.DOT.DELTA": 0.05},
        "composition": {"DISTILLER.TYPE": "CRD+KD", "DISTILLER.PART_WEIGHTS": [1, 0.5], "DISTILLER.PART_CE_WEIGHTS": [1, 0]},
        "hyperparameters": {"DISTILLER.TYPE": "DKD", "DKD.BETA": 2, "DKD.T": 1.5, "DKD.WARMUP": 3},
        "nested hyperparameters": {"DISTILLER.TYPE": "KD", "KD.LOSS.CE_WEIGHT": 1, "KD.LOSS.KD_WEIGHT": 0},
        "stages": {"DISTILLER.TYPE": "HCD", "HCD.STAGES": [1, 3], "HCD.N": 2, "STUDENT.STAGES": [0, 1, -1]},
        "teacher options": {"DISTILLER.TYPE": "KD", "TEACHER.OPTIONS": {"depth": 2}, "TEACHER.NORM": "none"},
        "student options": {"DISTILLER.TYPE": "KD", "STUDENT.OPTIONS.widths": [12, 24, 48]},
        "student weights": {"DISTILLER.TYPE": "KD", "STUDENT.WEIGHTS": FILE, "STUDENT.HEAD": "reset"},
        "statistics": {"DISTILLER.TYPE": "KD", "STUDENT.NORM": [[0.5, 0.5, 0.5], [0.25, 0.25, 0.25]]},
        "seed": {"DISTILLER.TYPE": "KD", "EXPERIMENT.SEED": 7, "DATASET.AUG_SEED": 3, "DATASET.SUBSET_SEED": 5},
        "cache": {"DISTILLER.TYPE": "KD", "CACHE.ENABLED": True, "CACHE.DTYPE": "fp32", "CACHE.VIEWS": 4},
        "validation": {"DISTILLER.TYPE": "KD", "DATASET.VAL_FRACTION": 0.2, "DATASET.PER_CLASS": 0},
        "augmentation": {
            "DISTILLER.TYPE": "KD",
            "AUGMENT.CROP": "rrc",
            "AUGMENT.RRC_SCALE": [0.5, 1.0],
            "AUGMENT.FLIP": 0.5,
            "AUGMENT.MIXUP": 0.2,
            "AUGMENT.CUTMIX": 1.0,
            "AUGMENT.ERASE": 0.25,
        },
        "optimiser": {
            "DISTILLER.TYPE": "KD",
            "SOLVER.TYPE": "SGD",
            "SOLVER.NESTEROV": True,
            "SOLVER.SCHEDULE": "step",
            "SOLVER.SCHEDULE_PER": "epoch",
            "SOLVER.LR_DECAY_STAGES": [4, 8],
            "SOLVER.EMA": 0.99,
            "SOLVER.CLIP_GRAD": 5.0,
        },
        "no part of a run": {"DISTILLER.TYPE": "KD", "EXPERIMENT.TAG": "a", "LOG.TENSORBOARD_FREQ": 10, "RUNTIME.THREADS": 1},
        "mdistiller's words": {"DISTILLER.TYPE": "KD", "SOLVER.TRAINER": "base", "SOLVER.DOT.DELTA": 0.075, "LOG.WANDB": True},
    }  # fmt: skip
    found |= {name: (DIGITS, {**TAUGHT, **values}) for name, values in options.items()}
    both = [{"MODEL": "small_cnn", "WEIGHTS": FILE, "NORM": "none"}, "small_vit"]
    found["several teachers"] = (DIGITS, {"DISTILLER.TYPE": "AVER", "TEACHERS": both})
    found["alone, evaluated every epoch"] = (DIGITS, {"SOLVER.EVAL_EVERY": 1})
    found["a key that this run does not use"] = (DIGITS, {"DISTILLER.TYPE": "DKD", "KD.LOSS.CE_WEIGHT": 1, **TAUGHT})
    found["the case of names"] = (DIGITS, {"DISTILLER.TYPE": "kd", **TAUGHT, "DISTILLER.STUDENT": "SMALL_CNN"})
    for file in ("digits/teacher_cnn", "digits/teacher_mixer", "digits/teacher_vit"):
        found[file] = (f"configs/{file}.yaml", {})
    return found


CONFIGURATIONS = _configurations()
GRIDS = sorted(Path("configs/grids").glob("*.yaml"))


def name_of(name: str, folder: Path) -> str:
    """The folder's name of a configuration's run."""
    weights = folder / "weights.safetensors"
    weights.write_bytes(WEIGHTS)
    file, overrides = CONFIGURATIONS[name]
    given = json.loads(json.dumps(overrides).replace(FILE, str(weights)))
    cfg = load_config(file, {"LOG.PREFIX": str(folder), **given})
    return locate(cfg, build_data(cfg))[0].path.name


def digest_of(grid: Path) -> str:
    """One hash over what names all runs of a grid: their configurations without paths, weights and data."""
    loaded = load_grid(grid, weights=False, networks=False)
    cfgs = [teacher.cfg for teacher in loaded.teachers.values() if teacher.cfg is not None]
    cfgs += [cell.with_teacher(loaded.teachers.get(cell.teacher), "") for cell in loaded.cells]
    names = [run_name(cfg, json.dumps(decisive(cfg), sort_keys=True)) for cfg in cfgs]
    return f"{len(names)} runs {hashlib.sha256(' '.join(names).encode()).hexdigest()[:16]}"


def test_there_are_many():
    assert len(CONFIGURATIONS) >= 40
    assert len({name for names in json.loads(STORED.read_text()).values() for name in names.values()}) >= 55


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_run_keeps_its_name(name, tmp_path):
    assert name_of(name, tmp_path) == json.loads(STORED.read_text())["runs"][name]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.stem)
def test_the_runs_of_a_grid_keep_their_names(grid):
    assert digest_of(grid) == json.loads(STORED.read_text())["grids"][grid.stem]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        runs = {name: name_of(name, Path(made)) for name in CONFIGURATIONS}
    stored = {"runs": runs, "grids": {grid.stem: digest_of(grid) for grid in GRIDS}}
    STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
