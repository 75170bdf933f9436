"""Processes of one run that end badly, or were not given the same work (real ones, joined by gloo)."""

from __future__ import annotations

import os
import re
import signal
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from forked_ranks import forked, settings, words

import kdbench
from kdbench.cli.main import main
from kdbench.distillers.base import Batch, Distiller, Losses, distillers, register_distiller
from kdbench.errors import KdbenchError
from kdbench.models.spec import ModelOutput
from kdbench.processes import board, verdict, watch

GOES_ON = "; the same command goes on from the last checkpoint"


@pytest.fixture
def accident(monkeypatch):
    """A method that meets with what the test says, in the third step of one process."""
    monkeypatch.setattr(watch, "INTERVAL", 0.2)
    monkeypatch.setattr(watch, "GRACE", 1.0)
    for module in (verdict, watch):
        monkeypatch.setattr(module, "SILENCE", 3.0)
    monkeypatch.setattr(verdict, "STILL", 3.0)
    met = {"rank": 1, "what": lambda: None, "steps": 0}

    class Accident(Distiller):
        """Cross entropy, until it happens."""

        uses_teacher = False

        def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
            met["steps"] += 1
            if met["steps"] == 3 and os.environ.get("RANK") == str(met["rank"]):
                met["what"]()
            return {"ce": F.cross_entropy(student.logits, batch.target)}

    register_distiller("ACCIDENT")(Accident)
    yield met
    distillers.remove("accident")


def out_of_memory():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")


def wrong():
    raise KdbenchError("this cannot be")


ENDS = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), r"is gone", 75),
    "exit": (lambda: os._exit(0), r"is gone", 75),
    "frozen": (lambda: os.kill(os.getpid(), signal.SIGSTOP), r"has (given no sign of life|not answered) for 3 s", 75),
    "stuck": (lambda: time.sleep(1000), r"has been stuck for [34] s at test_together.py:\d+ \(<lambda>\)", 75),
    "memory": (out_of_memory, r"failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB", 70),
}


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_ends_badly_ends_all_and_one_line_says_so(tmp_path, accident, end, rank):
    accident["what"], said, code = ENDS[end]
    accident["rank"] = rank
    done = forked(tmp_path, lambda _: main(words(tmp_path, **{"DISTILLER.TYPE": "ACCIDENT"})))
    assert done.seconds < 45
    assert not any("Traceback" in text for text in done.texts)
    (line,) = done.lines
    if end == "memory" and rank == 0:
        assert line.startswith(
            "kdbench: unexpected error: OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB (details: "
        )
    else:
        pattern = rf"kdbench: process {rank} of 2 \(pid \d+ on .*\) {said}{GOES_ON}"
        assert re.fullmatch(pattern, line), line
    assert done.codes[1 - rank] == code
    assert done.codes[rank] in ((0, -signal.SIGKILL, code))
    # nothing is left that the same command would stumble over
    accident["what"] = lambda: None
    assert main(words(tmp_path, **{"DISTILLER.TYPE": "ACCIDENT"})) == 0


def test_an_error_of_one_is_told_once_and_ends_all_alike(tmp_path, accident):
    accident["what"] = wrong
    done = forked(tmp_path, lambda _: main(words(tmp_path, **{"DISTILLER.TYPE": "ACCIDENT"})))
    assert done.codes == [2, 2]
    (line,) = done.lines
    assert line.startswith("kdbench: process 1 of 2 (pid ")
    assert line.endswith("): this cannot be")


def test_an_error_of_all_is_told_once_as_that_of_one_process(tmp_path, accident):
    done = forked(
        tmp_path, lambda _: main(words(tmp_path, **{"SOLVER.BATCH_SIZE": 3, "DISTILLER.STUDENT": "small_vti"}))
    )
    assert done.codes == [2, 2]
    (line,) = done.lines
    assert "small_vti" in line
    assert "process" not in line


def test_from_python_the_error_is_raised_where_it_came_up(tmp_path, accident):
    accident["what"] = wrong

    def work(rank):
        with pytest.raises(KdbenchError, match="this cannot be"):
            kdbench.train(kdbench.load_config(overrides=settings(tmp_path, **{"DISTILLER.TYPE": "ACCIDENT"})))
        return 5

    done = forked(tmp_path, work)
    assert done.codes == [2, 5]
    assert len(done.lines) == 1


def test_an_error_that_all_catch_is_no_end(tmp_path, accident):
    def work(rank):
        with pytest.raises(KdbenchError, match="small_vti"):
            kdbench.train(kdbench.load_config(overrides=settings(tmp_path, **{"DISTILLER.STUDENT": "small_vti"})))
        kdbench.train(kdbench.load_config(overrides=settings(tmp_path)))
        kdbench.train(kdbench.load_config(overrides=settings(tmp_path, **{"EXPERIMENT.SEED": 2})))

    done = forked(tmp_path, work)
    assert done.codes == [0, 0], done.texts
    assert not done.lines
    assert len(list(tmp_path.rglob("result.json"))) == 2


def test_the_main_process_may_work_alone_for_longer_than_silence(tmp_path, accident):
    from kdbench.engine.session import finish

    def work(rank):
        export = finish._export

        def slow(*given):
            time.sleep(2 * verdict.SILENCE)
            export(*given)

        finish._export = slow
        return main(words(tmp_path))

    done = forked(tmp_path, work)
    assert done.codes == [0, 0], done.texts


def test_the_main_process_speaks_alone(tmp_path):
    def work(rank):
        import logging

        from kdbench.engine.session import prepare

        opening = prepare.check_single

        def loud(*given):
            logging.getLogger("kdbench.test").warning("a log line")
            print("a warning", file=sys.stderr)
            print("a printed line")
            opening(*given)

        prepare.check_single = loud
        logging.getLogger().handlers.clear()  # those of pytest
        return main(words(tmp_path))

    done = forked(tmp_path, work)
    assert done.codes == [0, 0], done.texts
    for line in ("a log line", "a warning", "a printed line", "epoch 2: top-1", "Vanilla: top-1"):
        assert done.texts[0].count(line) == 1, done.texts[0]
    assert done.texts[1] == ""


def test_one_that_does_not_come_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "JOINING", 2.0)
    done = forked(tmp_path, lambda rank: None if rank else main(words(tmp_path)))
    assert done.codes == [2, 0]
    (line,) = done.lines
    assert line.startswith("kdbench: the processes of this run did not meet at 127.0.0.1:")


@pytest.mark.parametrize("at", [pytest.param("connect", marks=pytest.mark.slow), "introduce"])
def test_one_that_ends_while_all_meet_is_told_in_one_line(tmp_path, at):
    """The one at which they meet."""

    def work(rank):
        if rank == 0:
            kill = lambda *_: (time.sleep(1), os.kill(os.getpid(), signal.SIGKILL))  # noqa: E731
            board.Board.introduce = kill
        elif at == "connect":
            from kdbench.processes import together

            connect = together.connect
            together.connect = lambda: (time.sleep(2), connect())[1]
        return main(words(tmp_path))

    done = forked(tmp_path, work)
    assert done.codes == [-signal.SIGKILL, 2], done.texts
    (line,) = done.lines
    assert line.startswith("kdbench: the process at which those of this run meet, at 127.0.0.1:")
    assert line.endswith("; the same command goes on")
    assert "Traceback" not in done.texts[1]


def test_one_that_freezes_while_all_meet_keeps_nobody_waiting(tmp_path, monkeypatch):
    """The one at which they meet, whose store takes connections and says nothing."""
    monkeypatch.setattr(board, "JOINING", 2.0)
    monkeypatch.setattr(board, "ANSWER", 1.0)

    def work(rank):
        if rank == 0:
            (tmp_path / "pid").write_text(str(os.getpid()))
            board.Board.introduce = lambda _: os.kill(os.getpid(), signal.SIGSTOP)
            return main(words(tmp_path))
        code = main(words(tmp_path))
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        return code

    done = forked(tmp_path, work)
    assert done.codes == [-signal.SIGKILL, 2], done.texts
    assert done.lines == ["kdbench: where the processes of this run meet, nobody answered for 1 seconds"]


def test_variables_that_do_not_say_where_to_meet_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert main(words(tmp_path)) == 2
    told = "kdbench: WORLD_SIZE is 2, but RANK, MASTER_ADDR, MASTER_PORT is not set; start several processes with torchrun\n"
    assert capsys.readouterr().err == told


def test_a_parameter_that_nobody_declared_unused_is_named(tmp_path, accident):
    class Spare(distillers.get("ACCIDENT")):
        """Has a module that nothing uses."""

        def setup(self) -> None:
            self.spare = torch.nn.Linear(2, 2)

    class Declared(Spare):
        """Says so."""

        unused_parameters = True

    register_distiller("SPARE")(Spare)
    register_distiller("DECLARED")(Declared)
    try:
        done = forked(tmp_path, lambda _: main(words(tmp_path, **{"DISTILLER.TYPE": "SPARE"})))
        assert done.codes == [2, 2]
        (line,) = done.lines
        told = "SPARE: no gradient reaches method.spare.weight, method.spare.bias, for which several processes would wait; "
        assert told + "declare unused_parameters = True" in line
        again = tmp_path / "again"
        again.mkdir()
        assert forked(again, lambda _: main(words(again, **{"DISTILLER.TYPE": "DECLARED"}))).codes == [0, 0]
    finally:
        for name in ("spare", "declared"):
            distillers.remove(name)
