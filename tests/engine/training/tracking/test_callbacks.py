"""Callbacks: what they are told, that they change nothing, and that they cannot end a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from forked_ranks import forked
from tiny_run import content, settings

import kdbench
from kdbench.cli.main import main
from kdbench.config.cohort import check_together
from kdbench.engine.training.tracking.tracker import TrackedRun, trackers
from kdbench.errors import ConfigError, NonFiniteLossError, RunStoppedError


class Noted(kdbench.Tracker):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def on_start(self, run: TrackedRun) -> None:
        self.told.append(("start", run))

    def on_epoch(self, line, timing) -> None:
        self.told.append(("epoch", line, timing))

    def on_end(self, outcome) -> None:
        self.told.append(("end", outcome))

    def kinds(self) -> list[str]:
        return [kind for kind, *_ in self.told]

    def epochs(self) -> list[int]:
        return [told[1]["epoch"] for told in self.told if told[0] == "epoch"]


class Terms(Noted):
    def on_terms(self, step, terms) -> None:
        self.told.append(("terms", step, terms))


def test_a_callback_is_told_what_the_files_hold(tmp_path):
    noted = Noted()
    extra = {"EXPERIMENT.NAME": "my_grid", "EXPERIMENT.PROJECT": "mine", "EXPERIMENT.TAG": "warm"}
    result = kdbench.train(settings(tmp_path, 2, **extra), callbacks=[noted])
    assert noted.kinds() == ["start", "epoch", "epoch", "end"]
    run = noted.told[0][1]
    assert (run.name, str(run.folder)) == (result.run_id, result.folder)
    assert (run.project, run.group, run.history) == ("mine", "my_grid", [])
    assert run.tags == ("Vanilla", "small_cnn", "fake", "seed 1", "warm")
    assert run.config["SOLVER.EPOCHS"] == 2
    for name, place in (("metrics.jsonl", 1), ("timing.jsonl", 2)):
        lines = [json.loads(line) for line in (Path(result.folder) / name).read_text().splitlines()]
        assert [told[place] for told in noted.told if told[0] == "epoch"] == lines
    assert noted.told[-1][1] == result


def test_nothing_of_a_run_depends_on_who_is_told(tmp_path):
    plain = kdbench.train(settings(tmp_path / "a", 2))
    extra = {"LOG.TRACKERS": ["csv"], "LOG.TENSORBOARD_FREQ": 2, "EXPERIMENT.PROJECT": "mine"}
    told = kdbench.train(settings(tmp_path / "b", 2, **extra), callbacks=[Noted(), Terms()])
    assert told.run_id == plain.run_id
    assert content(told.folder) == content(plain.folder)


def test_terms_of_single_steps_are_told_only_where_they_are_wanted(tmp_path):
    noted, terms = Noted(), Terms()
    kdbench.train(settings(tmp_path, 2, **{"LOG.TENSORBOARD_FREQ": 2}), callbacks=[noted, terms])
    steps = [told for told in terms.told if told[0] == "terms"]
    assert [told[1] for told in steps] == [0, 2, 4]
    assert all(set(told[2]) == {"ce"} and isinstance(told[2]["ce"], float) for told in steps)
    assert "terms" not in noted.kinds()


def test_one_that_raises_is_told_nothing_more(tmp_path, caplog):
    class Raising(Noted):
        def on_epoch(self, line, timing):
            super().on_epoch(line, timing)
            raise ConnectionError("the network\nis gone")

    raising, noted = Raising(), Noted()
    caplog.set_level(logging.WARNING, "kdbench")
    kdbench.train(settings(tmp_path, 3), callbacks=[raising, noted])
    assert raising.kinds() == ["start", "epoch"]
    assert noted.kinds() == ["start", "epoch", "epoch", "epoch", "end"]
    assert [r.getMessage() for r in caplog.records] == [
        "tracker Raising is off for the rest of the run (on_epoch: ConnectionError: the network is gone)"
    ]


def test_a_run_that_fails_tells_why(tmp_path):
    noted = Noted()
    with pytest.raises(NonFiniteLossError):
        kdbench.train(settings(tmp_path, 2, **{"SOLVER.LR": 1000.0}), callbacks=[noted])
    assert isinstance(noted.told[-1][1], NonFiniteLossError)
    assert noted.kinds().count("end") == 1


def test_one_that_is_interrupted_tells_so_too(tmp_path):
    def interrupt(epoch, step, steps):
        if epoch == 2:
            raise KeyboardInterrupt

    noted = Noted()
    with pytest.raises(KeyboardInterrupt):
        kdbench.train(settings(tmp_path, 3), progress=interrupt, callbacks=[noted])
    assert noted.kinds() == ["start", "epoch", "end"]
    assert isinstance(noted.told[-1][1], KeyboardInterrupt)


def test_a_run_that_goes_on_tells_what_is_new(tmp_path):
    def stop(epoch, step, steps):
        if epoch == 3 and step == 2:
            raise RunStoppedError("enough")

    first, second, third = Noted(), Noted(), Noted()
    with pytest.raises(RunStoppedError):
        kdbench.train(settings(tmp_path, 4), progress=stop, callbacks=[first])
    kdbench.train(settings(tmp_path, 4), callbacks=[second])
    assert first.epochs() == [1, 2]
    assert [line["epoch"] for line in second.told[0][1].history] == [1, 2]
    assert second.epochs() == [3, 4]
    kdbench.train(settings(tmp_path, 4), callbacks=[third])
    assert third.told == []  # it was done


def test_members_of_a_cohort_have_their_own(tmp_path):
    cfgs = [settings(tmp_path, 2, **{"SOLVER.LR": rate}) for rate in (0.01, 0.02, 1000.0)]
    noted = [Noted() for _ in cfgs]
    outcomes = kdbench.train_cohort(cfgs, callbacks=[[one] for one in noted])
    assert [one.told[-1][1] for one in noted] == outcomes
    assert [one.told[0][1].name for one in noted[:2]] == [one.run_id for one in outcomes[:2]]
    assert isinstance(outcomes[2], NonFiniteLossError)


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        ([[object()]], "object has none of the methods on_start, on_terms, on_epoch, on_end"),
        ([[Noted]], "Noted is a class; give an object of it, Noted()"),
        ([Noted()], "expects for each of the 1 configurations a list of its own"),
        ([[], []], "expects for each of the 1 configurations a list of its own"),
    ],
)
def test_what_is_no_callback_is_refused(tmp_path, callbacks, said):
    with pytest.raises(ConfigError, match="callbacks=") as caught:
        kdbench.train_cohort([settings(tmp_path, 1)], callbacks=callbacks)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("csw", "LOG.TRACKERS: unknown tracker 'csw'; did you mean 'csv'?"),
        ("csv,away", "LOG.TRACKERS: away takes the package no_such_package, which is not installed: pip install no_such_package"),
        ("[1, 2]", "LOG.TRACKERS: expects a list of names"),
    ],
)  # fmt: skip
def test_a_tracker_that_is_not_there_is_said_before_anything_is_written(tmp_path, monkeypatch, capsys, given, said):
    monkeypatch.setitem(trackers._entries, "away", ("away", type("Away", (), {"requires": "no_such_package"})))
    words = [f"{key}={value}" for key, value in {"DATASET.TYPE": "fake", "DATASET.OPTIONS.size": 8}.items()]
    code = main(["train", *words, f"LOG.PREFIX={tmp_path}", f"LOG.TRACKERS={given}", "SOLVER.EPOCHS=1"])
    assert code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_trackers_of_the_users_own_have_names(tmp_path):
    file = tmp_path / "my_tracker.py"
    file.write_text(
        "import kdbench\n\n\n@kdbench.register_tracker('lines')\nclass Lines(kdbench.Tracker):\n"
        "    def on_start(self, run):\n        self.file = run.folder / 'lines.txt'\n\n"
        "    def on_epoch(self, line, timing):\n        with self.file.open('a') as stream:\n"
        "            print(line['epoch'], file=stream)\n"
    )
    words = ["DATASET.TYPE=fake", "DATASET.OPTIONS.size=8", "SOLVER.EPOCHS=2", f"LOG.PREFIX={tmp_path / 'runs'}"]
    try:
        assert main(["--quiet", "train", "--import", str(file), *words, "LOG.TRACKERS=Lines"]) == 0
        (found,) = (tmp_path / "runs").glob("*/lines.txt")
        assert found.read_text() == "1\n2\n"
    finally:
        trackers.remove("lines")


def test_only_the_main_process_tells(tmp_path):
    def work(rank: int) -> int:
        noted = Noted()
        kdbench.train(settings(tmp_path / "runs", 1), callbacks=[noted])
        return noted.kinds() != ([] if rank else ["start", "epoch", "end"])

    ended = forked(tmp_path, work)
    assert ended.codes == [0, 0], ended.texts


def test_trackers_may_differ_in_a_cohort(tmp_path):
    check_together([settings(tmp_path, 1, **{"LOG.TRACKERS": names}) for names in ((), ("csv",))])
