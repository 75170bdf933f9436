"""What MLKD does beyond its golden vectors, and what two looks at each image mean for a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from forked_ranks import forked
from interrupted_runs import assert_same, configure, run_killed
from tiny_run import content, settings

import kdbench
from kdbench import Distiller, register_distiller
from kdbench.bench.comparison.table import several_looks
from kdbench.bench.methods.conformance import create_pair, make_batch
from kdbench.config.defaults import DOMAINS
from kdbench.distillers.compose import Composed
from kdbench.distillers.cut import cut
from kdbench.distillers.mlkd import mlkd_loss
from kdbench.errors import IncompatibleError, LossError

TAUGHT = {
    "DISTILLER.TYPE": "MLKD",
    "DISTILLER.TEACHER": "small_cnn",
    "TEACHER.NORM": "dataset",
    "TEACHER.FLOOR": 0.0,
}


def logits(size: int = 6, classes: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(size, classes, generator=generator, dtype=torch.float64) for _ in range(4)]


def pair(method: str = "MLKD"):
    return create_pair(method, ("small_cnn", {}), ("small_mixer", {}))


def test_students_like_their_teachers_lose_nothing():
    _, _, weak, strong = logits()
    loss, terms = mlkd_loss(weak, strong, weak, strong, temperature=4.0, return_terms=True)
    assert abs(float(loss)) < 1e-12
    assert set(terms) == {"instance", "class", "batch"}


@pytest.mark.parametrize("axis", [0, 1])
def test_the_order_of_samples_and_classes_means_nothing(axis):
    inputs = logits()
    order = torch.randperm(inputs[0].shape[axis], generator=torch.Generator().manual_seed(1))
    turned = [value.index_select(axis, order) for value in inputs]
    torch.testing.assert_close(mlkd_loss(*inputs), mlkd_loss(*turned), rtol=1e-12, atol=0)


def test_the_strong_look_is_in_the_instance_term_alone():
    one, two = logits(), logits()
    two[1] = two[1] + torch.arange(5.0)
    _, first = mlkd_loss(*one, return_terms=True)
    _, second = mlkd_loss(*two, return_terms=True)
    assert first["instance"] != second["instance"]
    assert (first["class"], first["batch"]) == (second["class"], second["batch"])


def test_both_looks_pass_through_student_and_teacher():
    student, teacher, method = pair()
    batch = make_batch(student, 6)
    given = method.taught(teacher, batch)
    terms = method(student, given, batch)
    twisted = replace(batch, looks={"strong": batch.looks["strong"].flip(3)})
    other = method(student, method.taught(teacher, twisted), twisted)
    assert terms["ce"] != other["ce"]
    torch.testing.assert_close(terms["class"], other["class"])
    assert torch.equal(given.looks["strong"].logits, teacher(batch.looks["strong"], need={"logits"}).logits)
    assert not given.logits.requires_grad


def test_a_batch_without_the_look_is_refused():
    student, teacher, method = pair()
    batch = replace(make_batch(student, 6), looks={})
    with pytest.raises(
        LossError, match=r"sees each image more than once: give Batch\(..., looks=\{'strong': images\}\)"
    ):
        method.taught(teacher, batch)


def test_parts_of_a_batch_have_their_looks():
    student, teacher, method = pair()
    batch = make_batch(student, 5)
    given = method.taught(teacher, batch)
    parts = list(cut(batch, given, 2))
    assert torch.equal(torch.cat([part.looks["strong"] for part, *_ in parts]), batch.looks["strong"])
    found = torch.cat([outputs.looks["strong"].logits for _, outputs, _ in parts])
    assert torch.equal(found, given.looks["strong"].logits)


def test_a_composition_has_the_looks_of_its_parts():
    student, teacher, method = pair()
    both = Composed({"MLKD": method, "KD": pair("KD")[2]})
    assert both.looks == ("strong",)
    batch = make_batch(student, 6)
    terms = both(student.eval(), both.taught(teacher, batch), batch)
    alone = method(student, method.taught(teacher, batch), batch)
    for name, term in alone.items():
        torch.testing.assert_close(terms[f"mlkd/{name}"], term)
    inside = create_pair("FCFD", ("small_cnn", {}), ("small_cnn", {}))[2]
    with pytest.raises(
        IncompatibleError, match="FCFD runs inside the networks and cannot be composed with a method that sees"
    ):
        Composed({"FCFD": inside, "MLKD": method})


@pytest.mark.parametrize("looks", ["strong", ("weird",), ["strong"]])
def test_a_look_that_nobody_knows_is_refused(looks):
    with pytest.raises(TypeError, match=r"looks is .*; expects a tuple of names among \('strong', 'rot90'"):
        register_distiller("ODD_LOOKS")(type("OddLooks", (Distiller,), {"looks": looks}))


def test_its_other_name_and_trainer_are_accepted():
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "KD_ours", "SOLVER.TRAINER": "ours"})
    assert cfg.DISTILLER.TYPE == "MLKD"
    assert "ours" in DOMAINS["SOLVER.TRAINER"]


@pytest.mark.parametrize("extra", [{}, {"CACHE.ENABLED": True}])
def test_a_killed_run_ends_in_the_same_bits(tmp_path, extra):
    whole = kdbench.train(configure(tmp_path / "whole", "MLKD", **extra))
    for step in (4, 11):
        run_killed(tmp_path / "killed", "MLKD", step, extra)
    again = kdbench.train(configure(tmp_path / "killed", "MLKD", **extra))
    assert again.run_id == whole.run_id
    assert_same(Path(whole.folder), Path(again.folder))


def test_the_cache_has_a_view_for_each_epoch_and_look(tmp_path):
    cached = {**TAUGHT, "CACHE.ENABLED": True, "CACHE.DTYPE": "fp32", "CACHE.DIR": str(tmp_path / "cache")}
    live = kdbench.train(settings(tmp_path / "live", 2, **TAUGHT))
    filled = kdbench.train(settings(tmp_path / "filled", 2, **cached))
    assert content(filled.folder) == content(live.folder)
    files = sorted((tmp_path / "cache").rglob("view*.bin"))
    assert [file.name for file in files] == ["view00001.bin", "view00002.bin"] * 2
    assert len({file.parent for file in files}) == 2
    times = [file.stat().st_mtime_ns for file in files]
    read = kdbench.train(settings(tmp_path / "read", 2, **cached))
    assert content(read.folder) == content(live.folder)
    assert [file.stat().st_mtime_ns for file in files] == times
    # a method that sees each image once reads the same view of the images
    kd = kdbench.train(settings(tmp_path / "kd", 2, **{**cached, "DISTILLER.TYPE": "KD"}))
    assert sorted((tmp_path / "cache").rglob("view*.bin")) == files
    assert '"cache": "reads"' in (Path(kd.folder) / "timing.jsonl").read_text()


@pytest.mark.parametrize("cached", [False, True])
def test_members_of_a_cohort_share_what_is_equal(tmp_path, cached):
    def cfgs(folder):
        kinds = ("KD", "MLKD", "FITNET", "MLKD+KD")
        extra = {"CACHE.ENABLED": cached, "CACHE.DIR": str(folder / "cache")}
        return [settings(folder, 2, **{**TAUGHT, **extra, "DISTILLER.TYPE": kind}) for kind in kinds]

    together = kdbench.train_cohort(cfgs(tmp_path / "together"))
    alone = [kdbench.train(cfg) for cfg in cfgs(tmp_path / "alone")]
    assert [content(one.folder) for one in together] == [content(one.folder) for one in alone]


@pytest.mark.parametrize("trainer", ["base", "dot"])
def test_several_processes_train_one_student_that_sees_both_looks(tmp_path, trainer):
    """With batch normalisation, which two passes of one step write to; the cache is filled by both processes."""
    extra = {"CACHE.ENABLED": True, "CACHE.DIR": str(tmp_path / "cache"), "SOLVER.TRAINER": trainer}

    def work(rank: int) -> int:
        kdbench.train(settings(tmp_path / "one", 2, **TAUGHT, **extra))
        kdbench.train(settings(tmp_path / "two", 2, **TAUGHT, **extra))
        return 0

    ended = forked(tmp_path, work)
    assert ended.codes == [0, 0], ended.texts
    folders = [file.parent for name in ("one", "two") for file in (tmp_path / name).rglob("result.json")]
    assert content(folders[0]) == content(folders[1])
    assert len(list((tmp_path / "cache").rglob("view*.bin"))) == 4


def test_mixed_images_are_refused_before_a_folder_exists(tmp_path):
    with pytest.raises(IncompatibleError, match=r"AUGMENT\.MIXUP and AUGMENT\.CUTMIX mix one look"):
        kdbench.train(settings(tmp_path, 1, **TAUGHT, **{"AUGMENT.MIXUP": 0.2}))
    assert not list(tmp_path.iterdir())


def test_tables_say_who_sees_more_images():
    assert several_looks([("KD", "KD"), ("FitNet", "FITNET"), ("mine", "NOBODYS")]) == []
    (remark,) = several_looks([("KD", "KD"), ("two", "MLKD"), ("both", "MLKD+KD")])
    assert "more than one image of a sample in each step, and cost as much more: two 2, both 2; all others 1" in remark
