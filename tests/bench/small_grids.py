"""Grids that take seconds: small networks on random data."""

from __future__ import annotations

import yaml

FAKE = {
    "DATASET": {"TYPE": "fake", "OPTIONS": {"size": 8, "train": 32, "test": 16}, "NUM_WORKERS": 0},
    "SOLVER": {"EPOCHS": 1, "BATCH_SIZE": 16, "LR": 0.01},
    "AUGMENT": {"CROP": "none", "FLIP": 0},
}


def grid_file(folder, **changes):
    """A grid of one teacher, one student, plain training and KD, one seed; ``changes`` to its keys."""
    teacher = {**FAKE, "DISTILLER": {"TYPE": "NONE", "STUDENT": "small_mixer"}}
    (folder / "teacher.yaml").write_text(yaml.safe_dump(teacher))
    tree = {
        "NAME": "g",
        "SET": FAKE,
        "TEACHERS": {"A": {"CFG": "teacher.yaml"}},
        "METHODS": ["Vanilla", "KD"],
        "SEEDS": [1],
    }
    tree |= {"PAIRS": [{"TEACHER": "A", "STUDENT": "small_cnn"}], **changes}
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


TWO_TEACHERS = {
    "NAME": "g",
    "SET": FAKE,
    "TEACHERS": {"A": {"CFG": "teacher.yaml"}, "B": {"CFG": "teacher.yaml", "SET": {"EXPERIMENT.SEED": 2}}},
    "PAIRS": [{"TEACHER": "A", "STUDENT": "small_cnn"}, {"TEACHER": "B", "STUDENT": "small_cnn"}],
    "METHODS": ["Vanilla", "KD"],
    "SEEDS": [1, 2],
}


def two_teachers(folder, **changes):
    """A grid of two teachers, one student, plain training and KD, two seeds; ``changes`` to its keys."""
    teacher = {
        "DATASET": FAKE["DATASET"],
        "SOLVER": FAKE["SOLVER"],
        "DISTILLER": {"TYPE": "NONE", "STUDENT": "small_mixer"},
    }
    (folder / "teacher.yaml").write_text(yaml.safe_dump(teacher))
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump({**TWO_TEACHERS, **changes}))
    return file


#: of the grid of :func:`twelve_cells`
EPOCHS = 20


def twelve_cells(folder):
    """A grid of two teachers, KD and DKD, three seeds, long enough to be killed at work."""
    fake = {
        "DATASET": {"TYPE": "fake", "OPTIONS": {"size": 8, "train": 128, "test": 64}, "NUM_WORKERS": 0},
        "SOLVER": {"EPOCHS": EPOCHS, "BATCH_SIZE": 16, "LR": 0.01},
        "AUGMENT": {"CROP": "none", "FLIP": 0},
    }
    (folder / "teacher.yaml").write_text(
        yaml.safe_dump({**fake, "DISTILLER": {"TYPE": "NONE", "STUDENT": "small_mixer"}})
    )
    tree = {
        "NAME": "g",
        "SET": fake,
        "TEACHERS": {"A": {"CFG": "teacher.yaml"}, "B": {"CFG": "teacher.yaml", "SET": {"EXPERIMENT.SEED": 2}}},
    }
    tree |= {
        "PAIRS": [{"TEACHER": t, "STUDENT": "small_cnn"} for t in "AB"],
        "METHODS": ["KD", "DKD"],
        "SEEDS": [1, 2, 3],
    }
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


#: of the grid of :func:`tuned_grid`
SWEEP = {
    "TRIALS": 3,
    "SEEDS": [101],
    "SPACE": {"KD": {"TEMPERATURE": [1, 2, 4, 8], "LOSS.KD_WEIGHT": {"LOW": 0.1, "HIGH": 10, "LOG": True}}},
}


def tuned_grid(folder, sweep=(), **changes):
    """A grid that tunes KD, one of its two methods, with three trials; ``sweep`` and ``changes`` to its keys."""
    held_out = {**FAKE, "DATASET": {**FAKE["DATASET"], "VAL_FRACTION": 0.25}}
    return grid_file(folder, **{"SET": held_out, "SWEEP": {**SWEEP, **dict(sweep)}, **changes})
