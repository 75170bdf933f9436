"""Several teachers on one student: judged, cached and named each by itself; a list of one is the teacher that it holds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from tiny_run import content, overrides

import kdbench
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.session import prepare as preparing
from kdbench.errors import ConfigError, IncompatibleError, RunStoppedError, TeacherGateError

WIDE = {"MODEL": "small_cnn", "OPTIONS": {"widths": [12, 16, 24]}}
TWO = [WIDE, {"MODEL": "small_mixer", "OPTIONS": {"img_size": 8}}]


def settings(folder, method: str = "AVER", epochs: int = 2, **extra):
    given = {"TEACHERS": TWO, "DISTILLER.TYPE": method, **extra}
    return kdbench.load_config(overrides=overrides(folder, epochs, **given))


@pytest.mark.parametrize("method", ["AVER", "CA_MKD", "AVER+CA_MKD"])
def test_a_run_its_record_and_its_cohort(tmp_path, method):
    result = kdbench.train(settings(tmp_path / "alone", method))
    assert (result.teacher, result.teacher_sha256.count(" + ")) == ("small_cnn + small_mixer", 1)
    assert "-small_cnn+small_mixer-small_cnn-s1-" in result.run_id
    assert kdbench.train(settings(tmp_path / "alone", method)).seconds == result.seconds  # done already
    alone = kdbench.load_config(overrides=overrides(tmp_path / "cohort", 2, **{"DISTILLER.TYPE": "Vanilla"}))
    members = [settings(tmp_path / "cohort", method), alone, settings(tmp_path / "cohort", "CAMKD+AVER")]
    together = kdbench.train_cohort(members)
    assert content(together[0].folder) == content(result.folder)
    assert together[1].teacher == ""


def test_a_cache_for_each_teacher_which_single_teachers_share(tmp_path):
    wanted = {"CACHE.ENABLED": True, "CA_MKD.LOSS.FEAT_WEIGHT": 0.0}
    live = kdbench.train(settings(tmp_path / "live", "CA_MKD", **wanted | {"CACHE.DTYPE": "fp32"}))
    fills = kdbench.train(settings(tmp_path / "stored", "CA_MKD", **wanted))
    timing = Path(fills.folder, "timing.jsonl").read_text()
    assert timing.count('"cache": "fills"') == 2
    assert len(list((tmp_path / "stored" / ".teacher-cache").glob("*/meta.json"))) == 2
    again = kdbench.train(settings(tmp_path / "stored", "AVER", **{"CACHE.ENABLED": True}))
    assert Path(again.folder, "timing.jsonl").read_text().count('"cache": "reads"') == 2
    single = overrides(tmp_path / "stored", 2, **{"DISTILLER.TYPE": "KD", "TEACHERS": [WIDE], "CACHE.ENABLED": True})
    kd = kdbench.train(kdbench.load_config(overrides=single))
    assert Path(kd.folder, "timing.jsonl").read_text().count('"cache": "reads"') == 2
    assert content(live.folder) != content(fills.folder)


def test_a_list_of_one_is_that_teacher(tmp_path):
    one = kdbench.train(settings(tmp_path, "KD", TEACHERS=[WIDE]))
    named = {"DISTILLER.TEACHER": "small_cnn", "TEACHER.OPTIONS": WIDE["OPTIONS"]}
    plain = kdbench.load_config(overrides=overrides(tmp_path, 2, **{"DISTILLER.TYPE": "KD", **named}))
    assert kdbench.train(plain).run_id == one.run_id
    aver = settings(tmp_path / "a", "AVER", TEACHERS=[WIDE], **{"AVER.LOSS.CE_WEIGHT": 0.1, "AVER.LOSS.KD_WEIGHT": 0.9})
    assert content(kdbench.train(aver).folder)[0] == content(one.folder)[0]


def test_what_tells_runs_apart(tmp_path):
    def name(teachers=TWO, **extra) -> str:
        from kdbench.data.build import build_data
        from kdbench.engine.session.locate import locate

        cfg = settings(tmp_path, TEACHERS=teachers, **extra)
        return locate(cfg, build_data(cfg)).folder.path.name

    assert name() == name([{**WIDE, "MODEL": "SMALL_CNN"}, TWO[1]])
    assert name() == name([{**WIDE, "FLOOR": -1.0, "NORM": "auto"}, TWO[1]])
    assert name(**{"TEACHER.NORM": "imagenet"}) == name([{**entry, "NORM": "imagenet"} for entry in TWO])
    others = [
        TWO[::-1],
        [TWO[0], {**TWO[1], "NORM": "imagenet"}],
        [TWO[0], {"MODEL": "small_vit"}],
        [*TWO, "small_vit"],
    ]
    assert len({name(), *map(name, others)}) == 1 + len(others)


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path):
    whole = kdbench.train(settings(tmp_path / "whole", "CA_MKD", 3))

    def stop(epoch: int, step: int, steps: int) -> None:
        if (epoch, step) == (2, 2):
            raise RunStoppedError("stop")

    with pytest.raises(RunStoppedError):
        kdbench.train(settings(tmp_path / "cut", "CA_MKD", 3), progress=stop)
    assert content(kdbench.train(settings(tmp_path / "cut", "CA_MKD", 3)).folder) == content(whole.folder)


def test_the_gate_judges_each(tmp_path, digits_teacher, caplog):
    fast = {"SOLVER.EPOCHS": 1, "SOLVER.WARMUP_EPOCHS": 0, "DATASET.REPEAT": 1, "DATASET.NUM_WORKERS": 0}
    good = {"MODEL": "small_mixer", "WEIGHTS": digits_teacher}
    given = {**fast, "DISTILLER.TYPE": "AVER", "LOG.PREFIX": str(tmp_path), "DISTILLER.TEACHER": ""}
    wrong = {**good, "NORM": [[9.0] * 3, [0.01] * 3]}
    cfg = kdbench.load_config("configs/digits/student.yaml", {**given, "TEACHERS": [good, wrong]})
    caplog.set_level(logging.INFO, logger="kdbench")
    with pytest.raises(TeacherGateError, match="teacher 'small_mixer' reaches"):
        kdbench.train(cfg)
    assert sum("teacher small_mixer: top-1" in record.message for record in caplog.records) == 2
    without = kdbench.load_config("configs/digits/student.yaml", {**given, "TEACHERS": [good, "small_cnn"]})
    with pytest.raises(ConfigError, match="name the weights of teacher 'small_cnn'"):
        kdbench.train(without)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("AVER")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"DISTILLER.TYPE": "KD"}, "KD learns from one teacher, and 2 are named; from several learn AVER, CA_MKD"),
        ({"DISTILLER.TYPE": "AVER+DKD"}, "DKD learns from one teacher"),
        ({"DISTILLER.TEACHER": "small_vit"}, "name one teacher there, or all of them here"),
        ({"TEACHERS": [WIDE, WIDE]}, "the same teacher stands twice"),
        ({"TEACHERS": [{"MODLE": "small_cnn"}, WIDE]}, "expects networks"),
        ({"TEACHERS": [{"MODEL": "small_cnn", "NROM": "auto"}]}, "did you mean 'NORM'"),
        ({"TEACHERS": [WIDE, {"MODEL": "small_vit", "FLOOR": 3}]}, "small_vit: FLOOR: 3"),
        ({"TEACHERS": 3}, "expects networks"),
    ],
)
def test_mistakes_are_one_line(tmp_path, given, words):
    with pytest.raises(ConfigError, match=words) as error:
        settings(tmp_path, **given)
    assert "\n" not in str(error.value)


def test_words_of_a_command_line():
    cfg = kdbench.load_config(overrides=["DISTILLER.TYPE=AVER", "TEACHERS=small_cnn, small_vit"])
    assert [entry["MODEL"] for entry in cfg.DISTILLER.TEACHERS] == ["small_cnn", "small_vit"]
    cfg = kdbench.load_config(overrides=["DISTILLER.TYPE=AVER", "TEACHERS=[{MODEL: a, WEIGHTS: ~/x.pth}, b]"])
    assert cfg.DISTILLER.TEACHERS[0]["WEIGHTS"] == str(Path.home() / "x.pth")


def test_networks_in_a_loop_of_ones_own():
    names = ("small_cnn", "small_cnn", "small_mixer")
    student, *teachers = (kdbench.create_model(name, num_classes=4, data_size=8) for name in names)
    method = kdbench.create_distiller("CA_MKD", student, teachers, seed=1)
    batch = kdbench.Batch(torch.rand(6, 3, 8, 8), torch.arange(6) % 4, epoch=2)
    terms = method(student, method.taught(teachers, batch), batch)
    assert set(terms) == {"ce", "kd", "feature"}
    assert all(bool(torch.isfinite(term)) for term in terms.values())
    first = kdbench.Batch(batch.images, batch.target)
    assert method(student, method.taught(teachers, batch), first)["feature"].item() == 0
    with pytest.raises(IncompatibleError, match="KD learns from one teacher, and 2 are given"):
        kdbench.create_distiller("KD", student, teachers)


def test_a_bad_teacher_is_named(tmp_path, monkeypatch):
    from kdbench.engine.teacher.source import TeacherSource

    network = TeacherSource.network

    def broken(self):
        found = network.fget(self)
        if self.cfg.DISTILLER.TEACHER == "small_mixer":
            with torch.no_grad():
                next(iter(found.parameters())).fill_(float("nan"))
        return found

    monkeypatch.setattr(TeacherSource, "network", property(broken))
    with pytest.raises(kdbench.KdbenchError, match="teacher 'small_mixer' gives NaN"):
        kdbench.train(settings(tmp_path))
    assert not RunFolder(next(tmp_path.iterdir())).done
    assert preparing.Teachers  # both teachers are one source of outputs
