"""Stdout that cannot be written: no work is lost for it, and one line says so."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from small_grids import grid_file
from synthetic_runs import write_run
from tiny_run import overrides

from kdbench.output import Output, lasting_output

FULL = "kdbench: stdout cannot be written: No space left on device\n"
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a system without /dev/full")


def kdbench(words, stdout) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kdbench", *map(str, words)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=300)


def closed_pipe() -> int:
    """Of a pipe that nobody reads, the end that is written."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def commands(folder):
    """What each verb is told to print, and what its work leaves behind."""
    for seed in (1, 2):
        write_run(folder / "results", method="KD", seed=seed, top1=70.0)
    settings = [f"{key}={value}" for key, value in overrides(folder / "trained", 1).items()]
    out, runs = folder / "out", folder / "runs"
    return {
        "list": (["list", "methods"], None),
        "list models": (["list", "models", "--json"], None),
        "table": (["table", folder / "results", "--out", out], out / "table.csv"),
        "statistics": (["table", folder / "results", "--stats", "--out", out], out / "statistics.md"),
        "train": (["train", *settings], folder / "trained"),
        "grid": (["grid", grid_file(folder), "--prefix", runs, "--jobs", 1, "--threads", 1], runs),
        "dry run": (["grid", grid_file(folder), "--prefix", runs, "--dry-run", "--no-probe"], None),
        "help": (["--help"], None),
        "help of a verb": (["table", "--help"], None),
        "version": (["--version"], None),
    }


VERBS = ["list", "list models", "table", "statistics", "train", "grid", "dry run", "help", "help of a verb", "version"]


def check_work(verb, left) -> None:
    assert left is None or left.exists()
    if verb in ("train", "grid"):
        assert len(list(left.rglob("result.json"))) == (1 if verb == "train" else 3)


@needs_full
@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk(tmp_path, verb):
    words, left = commands(tmp_path)[verb]
    with open("/dev/full", "w") as full:
        done = kdbench(words, full)
    assert done.returncode == 2
    assert done.stderr.endswith(FULL)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    check_work(verb, left)


@pytest.mark.parametrize("verb", VERBS)
def test_a_reader_that_has_gone(tmp_path, verb):
    words, left = commands(tmp_path)[verb]
    writer = closed_pipe()
    try:
        done = kdbench(words, writer)
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert "stdout" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    check_work(verb, left)


@needs_full
def test_an_error_has_its_own_line_and_code(tmp_path):
    with open("/dev/full", "w") as full:
        done = kdbench(["list", "nonsense"], full)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "list shows methods" in done.stderr


@needs_full
def test_stderr_that_cannot_be_written(tmp_path):
    words, left = commands(tmp_path)["train"]
    for command, code in ((words, 0), (["list", "nonsense"], 2)):
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-m", "kdbench", *command], stderr=full, check=False, timeout=300)
        assert done.returncode == code
    check_work("train", left)


class Refusing(io.StringIO):
    """Takes some letters, and no more."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, text: str) -> int:
        if self.tell() + len(text) > self.room:
            raise OSError(122, "Disk quota exceeded")
        return super().write(text)


def test_what_follows_is_dropped(monkeypatch):
    stream = Refusing(8)
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_output() as output:
        print("one")
        print("two and more")
        print("six")
        assert sys.stdout.encoding == stream.encoding
    assert sys.stdout is stream
    assert stream.getvalue().startswith("one\n")
    assert "six" not in stream.getvalue()
    assert output.fault == "stdout cannot be written: Disk quota exceeded"


def test_without_stdout(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with lasting_output() as output:
        print("nobody reads it")
    assert sys.stdout is None
    assert output.fault == ""


def test_a_reader_that_has_gone_is_no_fault():
    output = Output(io.StringIO())
    output._give_up(BrokenPipeError(32, "Broken pipe"))
    assert output.fault == ""
    assert output.write("x") == 1
