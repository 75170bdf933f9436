"""Whether another process of the same machine lives."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from kdbench.processes.place import Place, rank_and_world

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")


def of(pid: int) -> Place:
    """A process as it would show itself."""
    code = "from kdbench.processes.place import *; from kdbench.processes.place import _stat, _space; import sys\n"
    code += f"print(_stat({pid})[1], _space(), sep='|')"
    began, space = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split("|")
    return replace(Place.own(), pid=pid, began=began, space=space.strip())


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@linux
def test_a_dead_process_is_known_at_once_even_before_anybody_waited_for_it(sleeper):
    place = of(sleeper.pid)
    assert not place.has_ended()
    place.kill()
    while sleeper.poll() is None:
        pass
    assert place.has_ended()


@linux
def test_a_number_that_was_used_again_is_another_process(sleeper):
    place = replace(of(sleeper.pid), began="1")
    assert place.has_ended()
    place.kill()
    assert sleeper.poll() is None


def test_a_process_of_another_machine_is_left_to_its_silence(sleeper):
    place = replace(Place.own(), space="another machine", pid=2**30)
    assert not place.has_ended()
    replace(place, pid=sleeper.pid).kill()
    assert sleeper.poll() is None
    assert not replace(Place.own(), space="", began="").has_ended()


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert rank_and_world() == (0, 1)
