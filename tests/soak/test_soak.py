"""``tools/soak.py`` in seconds, and whether it would find what it looks for."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from soaking import conduct as conduct_module
from soaking import kinds as kinds_module
from soaking.child import Child, Ended, command, ended
from soaking.conduct import conduct
from soaking.damage import damage
from soaking.kinds import KINDS, Kind
from soaking.place import Calm, Place, difference, train, trained_methods
from soaking.states import other_figures
from soaking.verdict import CRASH, HANG, HEALED, REFUSED, TRACEBACK, WRONG, Verdict, fault_of, judge

import kdbench


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "place")


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def trace() -> None:
    raise KeyError("nobody foresaw this")


def refuse() -> int:
    print("a line of a log\nkdbench: this cannot be", file=sys.stderr)
    return 2


def refuse_twice() -> int:
    print("kdbench: this\nkdbench: cannot be", file=sys.stderr)
    return 2


ENDS: dict[str, tuple[Callable[[], int | None], str]] = {
    "nothing": (lambda: None, HEALED),
    "a refusal": (refuse, REFUSED),
    "two lines": (refuse_twice, TRACEBACK),
    "no line": (lambda: 2, TRACEBACK),
    "a traceback": (trace, TRACEBACK),
    "another exit code": (lambda: 3, TRACEBACK),
    "a crash": (crash, CRASH),
    "a sleeper": (lambda: time.sleep(100), HANG),
}


@pytest.mark.parametrize("end", ENDS)
def test_each_end_has_its_word(end):
    work, word = ENDS[end]
    limit = 1.0 if word == HANG else 60.0
    assert judge(Child(work).wait(limit), "", lambda: "").word == word


def test_an_unexpected_error_of_the_command_is_a_traceback(monkeypatch):
    monkeypatch.setattr("kdbench.cli.listing.run", lambda args: {}["missing"])
    assert judge(ended(command("list", "methods")), "", lambda: "").word == TRACEBACK


def test_a_refusal_of_what_has_to_go_on_is_a_fault():
    assert judge(ended(refuse), "", lambda: "", refusable=False).word == TRACEBACK


def test_only_a_signal_that_was_sent_is_no_crash():
    killed = Ended(-signal.SIGKILL, "", "", 1.0)
    assert fault_of(killed, "", sent=(signal.SIGKILL,)) is None
    found = fault_of(killed, "", sent=(signal.SIGTERM,))
    assert found is not None
    assert found.word == CRASH


def test_a_hang_says_where_it_is():
    done = Child(lambda: time.sleep(100)).wait(1.0)
    assert "test_soak.py" in done.err


@pytest.mark.parametrize("file", ["metrics.jsonl", "student.safetensors"])
def test_a_doctored_run_is_silently_wrong(place, tmp_path, file):
    calm = place.calm("Vanilla")
    done = ended(command(*train(tmp_path / "run", "Vanilla")))
    assert judge(done, "", lambda: difference(tmp_path / "run", calm.content)).word == HEALED
    doctored = next((tmp_path / "run").rglob(file))
    doctored.write_bytes(doctored.read_bytes()[:-2] + b"x\n")
    found = judge(done, "", lambda: difference(tmp_path / "run", calm.content))
    assert found == Verdict(WRONG, "", f"{file} differ from those of the undisturbed run")


@pytest.mark.parametrize("kind", ["kills", "crash_points", "writers", "disk"])
def test_against_a_broken_oracle_every_run_is_silently_wrong(place, monkeypatch, kind):
    calm = Place.calm

    def broken(self: Place, method: str, **extra: object) -> Calm:
        true = calm(self, method, **extra)
        return true._replace(content=[true.content[0] + b"\n", true.content[1]])

    monkeypatch.setattr(Place, "calm", broken)
    verdicts = KINDS[kind].case(place, 0, random.Random(0))
    assert {verdict.word for verdict in verdicts} == {WRONG}


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ("pair,method,mean\np,KD,50.0\n", ""),
        ("pair,method,mean\np,KD,\n", ""),
        ("pair,method,mean\n", ""),
        ("pair,method,mean\np,KD,51.0\n", "p, KD: mean is 51.0 instead of 50"),
        ("pair,method,mean\np,CRD,50\n", "the table has cells {('p', 'CRD')}"),
    ],
)
def test_a_table_with_other_figures_is_wrong(table, wrong):
    assert other_figures(table, "pair,method,mean\np,KD,50\n") == wrong
    if not wrong:
        whole = other_figures(table, "pair,method,mean\np,KD,50\n", whole=True)
        assert ("missing" in whole) == ("50.0" not in table)


def test_damage_is_drawn_anew_and_nearly_always_changes_the_file():
    content = b'{"a": 1, "b": "text", "seal": "0"}\n'
    made = [damage(content, random.Random(number)) for number in range(200)]
    assert sum(changed != content for _, changed in made) > 190
    assert len({changed for _, changed in made}) > 100
    assert made == [damage(content, random.Random(number)) for number in range(200)]


def test_faults_are_told_with_what_repeats_them_and_counted(monkeypatch):
    def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
        return [Verdict((HEALED, REFUSED, WRONG)[number % 3], f"accident {number} {chance.random()}", "seen")]

    monkeypatch.setitem(kinds_module.KINDS, "kills", Kind("kills", case, 1, lambda _: 9))
    lines: list[str] = []
    found = conduct(["kills"], seed=5, minutes=0, jobs=2, say=lines.append)
    assert found.counts["kills"] == {HEALED: 3, REFUSED: 3, WRONG: 3}
    assert not found.clean
    assert len(lines) == 3
    assert sorted(re.findall(r"--seed 5 --replay kills:(\d)", "".join(lines))) == ["2", "5", "8"]
    (again,) = conduct_module.replay("kills", 8, 5)
    assert any(again.accident in line for line in lines)
    assert "| kills | 9 | 3 | 3 | 0 | 0 | 0 | 3 |" in found.table()


def test_nothing_tried_is_not_clean():
    assert not conduct_module.Found({"kills": Counter({HEALED: 1}), "yaml": Counter()}, []).clean


def test_each_kind_has_a_case_when_the_time_is_over_before_it(monkeypatch):
    for name in ("kills", "yaml"):
        case = lambda place, number, chance: [Verdict(HEALED, "", "")]  # noqa: E731
        monkeypatch.setitem(kinds_module.KINDS, name, Kind(name, case, 1, lambda _: 9))
    found = conduct(["kills", "yaml"], seed=5, minutes=0, jobs=2, say=print, least=False)
    assert found.clean
    assert found.counts == {"kills": {HEALED: 1}, "yaml": {HEALED: 1}}


def test_some_seconds_of_the_command():
    words = ["--minutes", "0.05", "--seed", "3", "--jobs", "1", "--no-least", "--kinds", "kills,images,yaml"]
    done = subprocess.run(
        [sys.executable, "tools/soak.py", *words], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("seed 3\n")
    assert done.stdout.endswith("seed 3, 0 faults\n")
    assert "| silently wrong |" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_some_cases_of_each_kind(kind):
    words = ["--minutes", "0.3", "--seed", "4", "--jobs", "1", "--no-least", "--kinds", kind]
    done = subprocess.run(
        [sys.executable, "tools/soak.py", *words], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


#: they need a distillation token, maps of equal width, and tokens
OTHERS = {"DEIT", "FSP", "VITKD"}


def test_methods_of_the_soak_are_all_that_its_networks_have():
    assert set(kdbench.list_distillers()) - set(trained_methods()) == OTHERS


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(set(kdbench.list_distillers()) - OTHERS))
def test_each_method_of_the_soak_goes_well_undisturbed(method, tmp_path):
    assert ended(command(*train(tmp_path, method))).code == 0
