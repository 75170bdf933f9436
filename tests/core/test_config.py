"""Configurations: what yacs lets slip is an error here, and all errors come together."""

from __future__ import annotations

import pytest

import kdbench
from kdbench.config.load import to_dict
from kdbench.errors import ConfigError, UnknownNameError


def write(tmp_path, text, name="a.yaml"):
    file = tmp_path / name
    file.write_text(text)
    return file


def test_defaults_are_fresh_and_frozen():
    one, two = kdbench.load_config(), kdbench.load_config()
    assert one is not two
    assert one.SOLVER is not two.SOLVER
    with pytest.raises(AttributeError):
        one.SOLVER.LR = 3.0


@pytest.mark.parametrize(
    "overrides",
    [["SOLVER.LR", "0.1"], ["SOLVER.LR=0.1"], {"SOLVER.LR": 0.1}, ["SOLVER.LR=1e-1"], ["SOLVER.LR", "1e-1"]],
)
def test_override_forms(overrides):
    assert kdbench.load_config(overrides=overrides).SOLVER.LR == 0.1


def test_int_for_float_and_scientific_notation(tmp_path):
    cfg = kdbench.load_config(
        write(tmp_path, "SOLVER: {LR: 1, WEIGHT_DECAY: 1e-3}\nKD: {TEMPERATURE: 4}\n"), ["DISTILLER.TYPE=KD"]
    )
    assert (cfg.SOLVER.LR, cfg.SOLVER.WEIGHT_DECAY, cfg.KD.TEMPERATURE) == (1.0, 0.001, 4.0)
    assert isinstance(cfg.SOLVER.LR, float)


def test_base_files_merge_deeply(tmp_path):
    write(tmp_path, "SOLVER: {LR: 0.3, EPOCHS: 7}\n", "base.yaml")
    cfg = kdbench.load_config(write(tmp_path, "_BASE_: base.yaml\nSOLVER: {LR: 0.2}\n"))
    assert (cfg.SOLVER.LR, cfg.SOLVER.EPOCHS) == (0.2, 7)


def test_all_errors_come_together(tmp_path):
    file = write(tmp_path, "SOLVER: {LRR: 1, EPOCHS: many, TYPE: SDG}\nDISTILLR: {TYPE: KD}\n")
    with pytest.raises(ConfigError) as caught:
        kdbench.load_config(file)
    message = str(caught.value)
    assert "4 errors" in message
    for part in (
        str(file),
        "did you mean 'LR'",
        "whole number, got 'many'",
        "did you mean 'SGD'",
        "did you mean 'DISTILLER'",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("SOLVER: {LR: 0.1, LR: 0.2}\n", "'LR' stands twice"),
        ("SOLVER: {LR: true}\n", "expects a number, got True"),
        ("SOLVER: {EPOCHS: 2.5}\n", "expects a whole number"),
        ("SOLVER: {NESTEROV: 1}\n", "expects True or False"),
        ("EXPERIMENT: {NAME: 10}\n", "put it in quotes"),
        ("SOLVER: 3\n", "expects a mapping"),
        ("SOLVER: {BATCH_SIZE: 0}\n", "lies outside"),
        ("SOLVER: {LR_DECAY_STAGES: soon}\n", "expects a list"),
        ("DISTILLER: {PRESET: hetero, TYPE: KD}\n", "did you mean 'heterogeneous'"),
        ("a: [\n", "no valid YAML"),
        ("[1, 2]\n", "mapping of keys"),
        ("_BASE_: a.yaml\n", "leads back to itself"),
        ("_BASE_: b.yaml\n", "no configuration file"),
    ],
)
def test_one_line_for_each_mistake(tmp_path, text, part):
    with pytest.raises(ConfigError) as caught:
        kdbench.load_config(write(tmp_path, text))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_python_files_are_not_configurations(tmp_path):
    mark = tmp_path / "mark"
    file = write(tmp_path, f"open({str(mark)!r}, 'w')\ncfg = None\n", "evil.py")
    with pytest.raises(ConfigError, match=r"\.yaml"):
        kdbench.load_config(file)
    assert not mark.exists()


def test_unknown_method():
    with pytest.raises(UnknownNameError, match="did you mean 'DKD'"):
        kdbench.load_config(overrides={"DISTILLER.TYPE": "DKDD"})


def test_only_the_methods_own_node_is_kept():
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "dkd", "KD.TEMPERATURE": 2})
    assert "DKD" in cfg
    assert "KD" not in cfg
    assert cfg.DISTILLER.TYPE == "DKD"


def test_preset_is_below_explicit_keys():
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "DKD", "DISTILLER.PRESET": "heterogeneous", "DKD.BETA": 3})
    assert (cfg.DKD.T, cfg.DKD.BETA, cfg.DKD.CE_WEIGHT) == (1.0, 3.0, 1.0)


def test_plain_tree_loads_again():
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "HCD", "STUDENT.OPTIONS.drop_rate": 0.1})
    assert to_dict(kdbench.load_config(overrides=dict(_flat(to_dict(cfg))))) == to_dict(cfg)


def _flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and key != "OPTIONS":
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
