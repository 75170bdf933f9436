"""Runs under ``DATASET.AUG_REPEATS``: with a cache, interrupted, in processes, with phases; and what they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forked_ranks import forked
from interrupted_runs import assert_same, configure, run_killed
from tiny_run import content, settings

import kdbench
from kdbench.data.build import build_data
from kdbench.engine.session.locate import locate
from kdbench.errors import ConfigError

COPIES = {"DATASET.AUG_REPEATS": 3}
TAUGHT = {"DISTILLER.TEACHER": "small_cnn", "TEACHER.NORM": "dataset", "TEACHER.FLOOR": 0.0}
MIXED = {"AUGMENT.MIXUP": 0.8, "SOLVER.LABEL_SMOOTHING": 0.1}


def uses(result) -> list[str | None]:
    lines = Path(result.folder, "timing.jsonl").read_text().splitlines()
    return [json.loads(line).get("cache") for line in lines if "epoch" in json.loads(line)]


@pytest.mark.parametrize(("method", "extra"), [("KD", {}), ("KD", MIXED), ("MLKD", {})])
def test_a_cache_gives_what_the_live_teacher_gives(method, extra, tmp_path):
    keys = {**TAUGHT, **COPIES, **extra, "DISTILLER.TYPE": method}
    cached = {**keys, "CACHE.ENABLED": True, "CACHE.DTYPE": "fp32", "CACHE.DIR": str(tmp_path / "cache")}
    live = kdbench.train(settings(tmp_path / "live", 2, **keys))
    filled = kdbench.train(settings(tmp_path / "filled", 2, **cached))
    read = kdbench.train(settings(tmp_path / "read", 2, **cached))
    assert content(live.folder) == content(filled.folder) == content(read.folder)
    assert [uses(result) for result in (live, filled, read)] == [[None] * 2, ["fills"] * 2, ["reads"] * 2]
    # a view is no larger than without copies
    views = {file.stat().st_size for file in (tmp_path / "cache").glob("*/view*") if file.suffix != ".json"}
    plain = {"CACHE.DIR": str(tmp_path / "plain"), "DATASET.AUG_REPEATS": 0}
    kdbench.train(settings(tmp_path / "without", 2, **{**cached, **plain}))
    assert len(views) == 1
    assert views == {file.stat().st_size for file in (tmp_path / "plain").glob("*/view*") if file.suffix != ".json"}


def test_another_method_reads_what_one_has_stored(tmp_path):
    keys = {**TAUGHT, **COPIES, "CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache")}
    kdbench.train(settings(tmp_path, 2, **keys, **{"DISTILLER.TYPE": "KD"}))
    other = kdbench.train(settings(tmp_path, 2, **keys, **{"DISTILLER.TYPE": "CRD", "CRD.NCE.K": 16}))
    assert uses(other) == ["reads"] * 2
    # neither without copies, nor with another number of them
    for copies in (0, 2):
        changed = {**keys, "DATASET.AUG_REPEATS": copies, "DISTILLER.TYPE": "DKD"}
        assert uses(kdbench.train(settings(tmp_path, 2, **changed))) == ["fills"] * 2


@pytest.mark.parametrize("at", [8, 12])
def test_a_killed_run_ends_in_the_same_bytes(at, tmp_path):
    extra = {**COPIES, **MIXED, "SOLVER.CHECKPOINT_EVERY": "2 steps"}
    whole = kdbench.train(configure(tmp_path / "whole", "KD", **extra))
    run_killed(tmp_path / "killed", "KD", at, extra)
    again = kdbench.train(configure(tmp_path / "killed", "KD", **extra))
    assert_same(Path(whole.folder), Path(again.folder))


def test_members_of_a_cohort_see_the_same(tmp_path):
    kinds = [{"DISTILLER.TYPE": kind} for kind in ("KD", "CRD")]
    keys = {**TAUGHT, **COPIES, "CRD.NCE.K": 16}
    alone = [kdbench.train(settings(tmp_path / "alone", 2, **keys, **kind)) for kind in kinds]
    together = kdbench.train_cohort([settings(tmp_path / "both", 2, **keys, **kind) for kind in kinds])
    assert [content(one.folder) for one in together] == [content(one.folder) for one in alone]


def test_processes_fill_a_cache_together(tmp_path):
    """Each writes the rows of its share; one process has then nothing left to ask the teacher for."""
    keys = {**TAUGHT, **COPIES, "DISTILLER.TYPE": "KD", "CACHE.ENABLED": True, "CACHE.DTYPE": "fp32"}
    keys["DISTILLER.STUDENT"] = "small_vit"
    live = kdbench.train(settings(tmp_path / "live", 1, **{**keys, "CACHE.ENABLED": False}))
    ended = forked(tmp_path, lambda rank: kdbench.train(settings(tmp_path / "ranks", 1, **keys)) and None)
    assert ended.codes == [0, 0], ended.texts
    [ranks] = (tmp_path / "ranks").glob("*/metrics.jsonl")
    terms = [json.loads(Path(file).read_text())["train"] for file in (f"{live.folder}/metrics.jsonl", ranks)]
    assert terms[1] == pytest.approx(terms[0], rel=1e-5)


def test_a_phase_before_the_first_epoch(tmp_path):
    keys = {**TAUGHT, **COPIES, "DISTILLER.TYPE": "FT", "FT.INIT_EPOCHS": 1}
    cached = {**keys, "CACHE.ENABLED": True, "CACHE.DTYPE": "fp32"}
    one, two = (kdbench.train(settings(tmp_path / name, 2, **found)) for name, found in (("a", keys), ("b", cached)))
    assert content(one.folder) == content(two.folder)


def test_it_is_part_of_a_runs_name_where_it_is_on(tmp_path):
    def name(**keys) -> str:
        cfg = settings(tmp_path, 1, **keys)
        return locate(cfg, build_data(cfg))[0].path.name

    assert name() == name(**{"DATASET.AUG_REPEATS": 0})
    assert len({name(), name(**COPIES), name(**{"DATASET.AUG_REPEATS": 2})}) == 3


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"DATASET.AUG_REPEATS": 1}, "DATASET.AUG_REPEATS"),
        ({"DATASET.REPEATED_AUGMENTATION": 3}, "did you mean 'AUG_REPEATS'"),
        ({**COPIES, "CACHE.VIEWS": 2}, "CACHE.VIEWS: 2 epochs in turn would leave out images for good"),
    ],
)
def test_what_cannot_be(keys, words, tmp_path):
    with pytest.raises(ConfigError, match=words) as caught:
        settings(tmp_path, 3, **keys)
    assert "\n" not in str(caught.value)
    assert settings(tmp_path, 3, **COPIES, **{"CACHE.VIEWS": 3}).CACHE.VIEWS == 3  # as many as epochs
