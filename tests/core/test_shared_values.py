"""Configurations, networks and methods share no dictionary, list or set, and what a caller hands in stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import kdbench
from kdbench import catalogue
from kdbench.bench.grids.grid_file import load_grid
from kdbench.config.defaults import defaults
from kdbench.config.load import build_config, flatten, merge_trees, to_dict
from kdbench.data.build import build_data
from kdbench.distillers.base import Distiller, distillers
from kdbench.engine.parts import build_network

STUDENT = 6418  # parameters of small_cnn at its default widths, ten classes


def mutable(value: Any, where: str) -> Iterator[tuple[int, str]]:
    """Every dictionary, list and set of a tree, by its identity."""
    if isinstance(value, (dict, list, set)):
        yield id(value), where
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from mutable(part, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from mutable(part, f"{where}[{i}]")


def shared(trees: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of places at which one and the same object stands."""
    seen: dict[int, str] = {}
    found = []
    for name, tree in trees.items():
        for identity, where in mutable(tree, name):
            if identity in seen:
                found.append((seen[identity], where))
            seen.setdefault(identity, where)
    return found


def test_the_walk_finds_what_is_shared():
    part: dict[str, Any] = {"x": []}
    assert shared({"a": {"one": part}, "b": [part]}) == [("a.one", "b[0]"), ("a.one.x", "b[0].x")]


def test_two_trees_and_their_parts_have_nothing_in_common():
    assert shared({"first": defaults(), "second": defaults()}) == []


def test_methods_have_nothing_in_common():
    kinds = ("defaults", "presets", "teacher_needs", "student_needs")
    classes = {name: distillers.get(name) for name in distillers.names()}
    trees = {f"{name}.{kind}": getattr(cls, kind) for name, cls in classes.items() for kind in kinds}
    trees |= {f"Distiller.{kind}": getattr(Distiller, kind) for kind in kinds}
    assert shared(trees) == []
    stored = catalogue._stored_methods()
    assert shared({name: vars(stored.get(name)) for name in stored.names()}) == []


def test_configurations_have_nothing_in_common_with_a_method_or_each_other():
    settings = {"DISTILLER.TYPE": "CRD+TEKAP_F+HCD", "STUDENT.OPTIONS": {"a": {"b": [1]}}}
    cfgs = {name: kdbench.load_config(overrides=settings) for name in ("first", "second")}
    known = catalogue.methods()
    nodes = {name: (known.get(name).defaults, known.get(name).presets) for name in known.names()}
    assert shared({**cfgs, **nodes}) == []


def test_needs_cannot_be_changed():
    for name in distillers.names():
        cls = distillers.get(name)
        for needs in (cls.teacher_needs, cls.student_needs):
            assert isinstance(needs, frozenset), name


def test_options_of_the_teacher_are_none_of_the_students():
    settings = {
        "DATASET.TYPE": "digits",
        "DISTILLER.TYPE": "KD",
        "DISTILLER.TEACHER": "small_cnn",
        "DISTILLER.STUDENT": "small_cnn",
        "TEACHER.OPTIONS.widths": [24, 48, 96],
    }
    cfg = kdbench.load_config(overrides=settings)
    assert to_dict(cfg.TEACHER.OPTIONS) == {"widths": [24, 48, 96]}
    assert to_dict(cfg.STUDENT.OPTIONS) == {}
    data = build_data(cfg)
    assert build_network(cfg, "STUDENT", data).spec.params == STUDENT
    assert build_network(cfg, "TEACHER", data).spec.params == 53_794


@pytest.mark.parametrize("nested", [True, False])
def test_what_a_caller_hands_in_stays_as_it_is(nested):
    value: Any = {"deep": {"x": [1, 2]}, "list": [[1], [2]]}
    given = {"STUDENT.OPTIONS": value, "STUDENT.OPTIONS.deep.x": 3, "STUDENT.OPTIONS.deep.y": 4}
    if not nested:
        given = {"STUDENT.OPTIONS.all": value, "STUDENT.OPTIONS.all.deep.x": 3}
    before = copy.deepcopy(given)
    cfg = kdbench.load_config(overrides=given)
    assert given == before
    changed = cfg.STUDENT.OPTIONS if nested else cfg.STUDENT.OPTIONS.all
    assert changed.deep.x == 3
    settings = list(flatten({"STUDENT": {"OPTIONS": value}}, "a file"))
    build_config([*settings, *flatten({"STUDENT.OPTIONS.deep.x": 5}, "override")])
    assert value == {"deep": {"x": [1, 2]}, "list": [[1], [2]]}


def test_merged_trees_share_nothing_with_their_parts():
    base, top = {"a": {"b": [1]}, "c": {"d": 1}}, {"a": {"e": [2]}, "f": {"g": [3]}}
    merged = merge_trees(base, top)
    assert merged == {"a": {"b": [1], "e": [2]}, "c": {"d": 1}, "f": {"g": [3]}}
    assert shared({"base": base, "top": top, "merged": merged}) == []


GRID = """
NAME: options
TEACHERS: {T: {MODEL: small_cnn, WEIGHTS: pretrained}}
PAIRS:
  - {TEACHER: T, STUDENT: small_cnn, LABEL: one, SET: {STUDENT.OPTIONS.extra.x: 1}}
  - {TEACHER: T, STUDENT: small_cnn, LABEL: two}
METHODS: [KD, {LABEL: DKD, TYPE: DKD, SET: {STUDENT.OPTIONS.extra.y: 2}}]
SEEDS: [1]
SET: {STUDENT: {OPTIONS: {extra: {z: 0}}}}
"""


def test_options_do_not_leak_from_one_cell_into_the_next(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    cells = {(cell.pair, cell.method): cell.cfg for cell in load_grid(tmp_path / "grid.yaml").cells}
    extra = {key: to_dict(cfg.STUDENT.OPTIONS.extra) for key, cfg in cells.items()}
    assert extra == {
        ("one", "KD"): {"z": 0, "x": 1},
        ("one", "DKD"): {"z": 0, "x": 1, "y": 2},
        ("two", "KD"): {"z": 0},
        ("two", "DKD"): {"z": 0, "y": 2},
    }
    assert all(to_dict(cfg.TEACHER.OPTIONS) == {} for cfg in cells.values())


def test_shipped_configurations_keep_options_apart():
    for file in sorted(Path("configs").glob("*/*.yaml")):
        tree = yaml.safe_load(file.read_text())
        if "NAME" not in tree:
            cfg = kdbench.load_config(file)
            assert to_dict(cfg.TEACHER.OPTIONS) == to_dict(tree).get("TEACHER", {}).get("OPTIONS", {})
