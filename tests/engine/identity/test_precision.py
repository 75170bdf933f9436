"""Number formats in a run's name: what computes the same has one name, what does not has another."""

from __future__ import annotations

import pytest

import kdbench
from kdbench.config.identity import decisive


def tree(*overrides):
    return decisive(kdbench.load_config("configs/digits/student.yaml", ["DISTILLER.TYPE=KD", *overrides]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SOLVER.AMP=none", "SOLVER.PRECISION=fp32"),
        ("SOLVER.AMP=bf16", "SOLVER.PRECISION=bf16"),
        ("SOLVER.AMP=fp16", "SOLVER.PRECISION=fp16"),
    ],
)
def test_the_key_that_was_called_otherwise_still_works(old, new):
    assert tree(old) == tree(new)
    assert tree(new)["SOLVER"]["AMP"] == old.partition("=")[2]  # what runs have always been named by


def test_the_later_of_both_wins():
    assert tree("SOLVER.AMP=bf16", "SOLVER.PRECISION=fp32") == tree()
    assert tree("SOLVER.PRECISION=fp32", "SOLVER.AMP=bf16") == tree("SOLVER.PRECISION=bf16")


def test_a_value_that_does_not_exist_is_refused():
    with pytest.raises(kdbench.KdbenchError, match=r"SOLVER\.PRECISION: .*'half'"):
        kdbench.load_config(overrides={"SOLVER.AMP": "half"})


def test_what_computes_otherwise_is_another_run():
    trees = [
        tree(),
        tree("SOLVER.PRECISION=tf32"),
        tree("SOLVER.PRECISION=bf16"),
        tree("TEACHER.PRECISION=bf16"),
        tree("SOLVER.PRECISION=bf16", "TEACHER.PRECISION=fp32"),
    ]
    assert all(a != b for i, a in enumerate(trees) for b in trees[:i])


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16"])
def test_a_teacher_of_the_students_precision_is_no_other_run(name):
    same = tree(f"SOLVER.PRECISION={name}", f"TEACHER.PRECISION={name}")
    assert same == tree(f"SOLVER.PRECISION={name}")


def test_how_a_step_is_run_is_no_part_of_the_name():
    assert tree("SOLVER.GRAPH=off") == tree()
