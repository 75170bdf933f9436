"""The section ``SWEEP`` of a grid file: what it stands for, and what is said of mistakes in it."""

from __future__ import annotations

import pytest
from small_grids import FAKE, grid_file, tuned_grid

from kdbench.bench.grids.grid import Range
from kdbench.bench.grids.grid_file import load_grid
from kdbench.errors import ConfigError


def space(**keys):
    return {"SPACE": {"KD": keys}}


@pytest.mark.parametrize(
    ("sweep", "part"),
    [
        ({"TRIAL": 3}, "unknown key SWEEP.TRIAL (did you mean 'TRIALS'?)"),
        ({"TRIALS": 0}, "SWEEP.TRIALS expects a whole number from 1, got 0"),
        ({"TRIALS": True}, "SWEEP.TRIALS expects a whole number from 1, got True"),
        ({"SEEDS": []}, "SWEEP.SEEDS expects a list that is not empty"),
        ({"SEEDS": [-1]}, "SWEEP.SEEDS expects whole numbers from 0, got -1"),
        ({"METHODS": []}, "SWEEP.METHODS expects a list that is not empty"),
        ({"METHODS": ["KD", "KD"]}, "SWEEP.METHODS names 'KD' twice"),
        ({"SPACE": {"KD": {"AUGMENT.PAD": [1, 2]}}}, "AUGMENT.PAD"),
        ({"SEEDS": [1, 1]}, "SWEEP.SEEDS has a seed twice"),
        ({"SAMPLER": "tp"}, "is none of random, qmc, tpe (did you mean 'tpe'?)"),
        ({"SAMPLER": "tpe"}, "ROUNDS expects at least 2, got 1"),
        ({"SAMPLER": "tpe", "ROUNDS": 2}, "TRIALS 3 cannot be divided by ROUNDS 2"),
        ({"ROUNDS": 3}, "SWEEP.ROUNDS has no effect: it takes SAMPLER tpe, which is random"),
        ({"METHODS": ["kd"]}, "SWEEP.METHODS 'kd' is none of the methods (did you mean 'KD'?)"),
        ({"METHODS": ["Vanilla"]}, "SWEEP.METHODS names Vanilla, which has no space"),
        ({"SPACE": {}}, "SWEEP.SPACE is empty"),
        ({"SPACE": {"DK": {"TEMPERATURE": [1]}}}, "SWEEP.SPACE.DK is none of the methods (did you mean 'KD'?)"),
        ({"SPACE": {"KD": 3}}, "SWEEP.SPACE.KD expects keys with their lists or ranges of values, got 3"),
        ({"SPACE": {"ALL": {"TEMPERATURE": [1]}}}, "SWEEP.SPACE.ALL: unknown key TEMPERATURE"),
        (
            {"METHODS": ["Vanilla"], "SPACE": {"Vanilla": {"SOLVER.LR": [0.1]}, "KD": {"TEMPERATURE": [1]}}},
            "SWEEP.SPACE.KD has no effect: SWEEP.METHODS does not name it",
        ),
        (space(TEMPERATUR=[1]), "SWEEP.SPACE.KD: unknown key TEMPERATUR (did you mean 'TEMPERATURE'?)"),
        (space(T=[1]), "did you mean 'TEMPERATURE'?"),
        (space(**{"SOLVER.BASE_LR": [1]}), "did you mean 'LR'?"),
        (space(**{"SOLVER.AMP": ["fp16"]}), "SWEEP.SPACE.KD.SOLVER.AMP is called SOLVER.PRECISION here"),
        (space(TEMPERATURE=[-1, 4]), "SWEEP.SPACE.KD: KD.TEMPERATURE: -1 lies outside (0, inf)"),
        (space(TEMPERATURE={"LOW": -1, "HIGH": 4}), "KD.TEMPERATURE: -1 lies outside (0, inf)"),
        (space(TEMPERATURE=["warm"]), "KD.TEMPERATURE: expects a number, got 'warm'"),
        (space(TEMPERATURE=4), "expects a list of different values, or a range"),
        (space(TEMPERATURE=[4, 4.0]), "expects a list of different values"),
        (space(TEMPERATURE={"LOW": 2, "HIGH": 1}), "expects LOW below HIGH, got 2 and 1"),
        (space(TEMPERATURE={"LOW": 1}), "SWEEP.SPACE.KD.TEMPERATURE.HIGH is missing"),
        (space(TEMPERATURE={"LOW": 1, "HIGH": 2, "STEPS": 1}), "did you mean 'STEP'?"),
        (space(TEMPERATURE={"LOW": 1, "HIGH": 2, "LOG": "yes please"}), "LOG expects true or false"),
        (space(TEMPERATURE={"LOW": 1, "HIGH": 2, "STEP": 0.3}), "expects a STEP above 0 that leads from LOW to HIGH"),
        (space(TEMPERATURE={"LOW": "a", "HIGH": 2}), "TEMPERATURE.LOW expects a number, got 'a'"),
        (space(**{"LOSS.KD_WEIGHT": {"LOW": 0, "HIGH": 1, "LOG": True}}), "expects LOG with LOW above 0"),
        (space(**{"DKD.BETA": [1, 2]}), "SWEEP.SPACE.KD.DKD.BETA has no effect: DISTILLER.TYPE is KD"),
        (space(**{"SOLVER.MIN_LR": [0.5]}), "SOLVER.MIN_LR has no effect: it takes SOLVER.SCHEDULE=cosine"),
        (space(**{"DATASET.VAL_FRACTION": [0.5]}), "is no trial's to choose"),
        (space(**{"STUDENT.OPTIONS.widths": [[8, 8]]}), "is no trial's to choose"),
        (space(**{"EXPERIMENT.SEED": [5]}), "is no trial's to choose"),
        (space(**{"TEMPERATURE": [5], "KD.TEMPERATURE": [6]}), "SWEEP.SPACE.KD.KD.TEMPERATURE stands twice"),
    ],
)
def test_mistakes_are_one_line(tmp_path, sweep, part):
    with pytest.raises(ConfigError) as caught:
        load_grid(tuned_grid(tmp_path, sweep))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_chosen_without_a_validation_part(tmp_path):
    with pytest.raises(ConfigError, match="chooses on the validation part, and A -> small_cnn / KD has none"):
        load_grid(tuned_grid(tmp_path, SET=FAKE))


def test_a_key_of_the_command_line_is_no_trials(tmp_path):
    with pytest.raises(ConfigError, match=r"KD\.TEMPERATURE is given on the command line, too"):
        load_grid(tuned_grid(tmp_path), ["KD.TEMPERATURE=3"])


def test_a_label_may_not_be_that_of_a_tuned_method(tmp_path):
    with pytest.raises(ConfigError, match=r"KD \(tuned\) / seed 1 stands twice"):
        load_grid(tuned_grid(tmp_path, METHODS=["KD", {"TYPE": "KD", "LABEL": "KD (tuned)"}]))


def test_keys_of_the_method_and_full_keys(tmp_path):
    spaces = {
        "ALL": {"SOLVER.LR": [0.01, 0.1], "SOLVER": {"WARMUP_EPOCHS": {"LOW": 0, "HIGH": 4, "STEP": 2}}},
        "cool": {"TEMPERATURE": [1, 2], "SOLVER.LR": ["1e-3", 0.5], "LOSS": {"KD_WEIGHT": {"LOW": "1e-1", "HIGH": 2}}},
    }
    methods = ["Vanilla", {"TYPE": "KD", "LABEL": "cool"}]
    grid = load_grid(tuned_grid(tmp_path, {"SPACE": spaces}, METHODS=methods, BASELINE="cool (tuned)"))
    warmup = Range(0, 4, step=2)
    assert grid.sweep.spaces["Vanilla"] == {"SOLVER.LR": (0.01, 0.1), "SOLVER.WARMUP_EPOCHS": warmup}
    assert warmup.whole
    assert grid.sweep.spaces["cool"] == {
        "SOLVER.LR": ("1e-3", 0.5),
        "SOLVER.WARMUP_EPOCHS": warmup,
        "KD.TEMPERATURE": (1, 2),
        "KD.LOSS.KD_WEIGHT": Range(0.1, 2),
    }
    assert grid.methods == ["Vanilla", "Vanilla (tuned)", "cool", "cool (tuned)"]
    assert [(cell.method, cell.seed, error) for cell, error in grid.open] == [
        ("Vanilla (tuned)", 1, ""),
        ("cool (tuned)", 1, ""),
    ]
    cell = grid.sweep.resolve("A -> small_cnn", "cool", 7, {"KD.TEMPERATURE": 2, "SOLVER.LR": "1e-3"})
    assert (cell.seed, cell.cfg.KD.TEMPERATURE, cell.cfg.SOLVER.LR) == (7, 2.0, 0.001)


def test_a_key_may_act_beside_a_value_of_another(tmp_path):
    keys = {"SOLVER.TYPE": ["ADAMW", "SGD"], "SOLVER.MOMENTUM": [0.5]}
    methods = [{"TYPE": "KD", "SET": {"SOLVER.TYPE": "ADAMW"}}]
    assert load_grid(tuned_grid(tmp_path, space(**keys), METHODS=methods)).sweep is not None
    with pytest.raises(ConfigError, match=r"MOMENTUM has no effect: it takes SOLVER\.TYPE=SGD, which is ADAMW"):
        load_grid(tuned_grid(tmp_path, space(**{"SOLVER.MOMENTUM": [0.5]}), METHODS=methods))


def test_a_grid_without_the_section_is_as_it_was(tmp_path):
    grid = load_grid(grid_file(tmp_path))
    assert (grid.sweep, grid.open, grid.tuning) == (None, (), {})
