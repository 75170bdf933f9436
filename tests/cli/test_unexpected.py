"""Errors that nobody foresaw: one line, a file with the details, exit code 70."""

from __future__ import annotations

import logging
import re
import tempfile

import pytest

from kdbench.cli.main import main
from kdbench.errors import KdbenchError


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """``kdbench list`` fails with whatever is put into the list that it returns; files go to a folder of the test."""
    raised: list[BaseException] = []

    def fail(args):
        raise raised[0] from ValueError("the cause")

    monkeypatch.setattr("kdbench.cli.listing.run", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return raised


def test_one_line_and_the_details_in_a_file(broken, capsys, tmp_path):
    broken.append(ZeroDivisionError("by\nzero \x1b[31m"))
    assert main(["list", "methods", "a b*"]) == 70
    error = capsys.readouterr().err
    [file] = tmp_path.iterdir()
    assert error == f"kdbench: unexpected error: ZeroDivisionError: by zero \\x1b[31m (details: {file})\n"
    text = file.read_text()
    assert "command: kdbench list methods 'a b*'" in text
    assert re.search(r"torch \d", text)
    assert "ValueError: the cause" in text
    assert "raise raised[0] from" in text
    assert file.stat().st_mode & 0o77 == 0  # a command line may hold what is nobody else's


def test_the_traceback_instead(broken, capsys, tmp_path):
    broken.append(RuntimeError("it broke"))
    assert main(["list", "--traceback"]) == 70
    error = capsys.readouterr().err
    assert error.startswith("ValueError: the cause")
    assert error.endswith("RuntimeError: it broke\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [RuntimeError(), RecursionError("x" * 10_000), UnicodeDecodeError("ascii", b"x", 0, 1, "y"), MemoryError()]
)
def test_of_any_kind(broken, capsys, error):
    broken.append(error)
    assert main(["list"]) == 70
    line = capsys.readouterr().err
    assert line.startswith(f"kdbench: unexpected error: {type(error).__name__}")
    assert line.count("\n") == 1
    assert len(line) < 600


def test_where_no_file_can_be_written(broken, capsys, monkeypatch):
    broken.append(RuntimeError("it broke"))
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert main(["list"]) == 70
    why = "details could not be written: No such file or directory; --traceback shows them"
    told = f"kdbench: unexpected error: RuntimeError: it broke ({why})\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KdbenchError("a\nb \x1b]0;x\x07"), 2, "kdbench: a b \\x1b]0;x\\x07\n"),
        (KdbenchError("x" * 100_000), 2, f"kdbench: {'x' * 5000}... (100,000 letters)\n"),
        (KeyboardInterrupt(), 130, "kdbench: interrupted\n"),
    ],
)
def test_what_is_foreseen_needs_no_file(broken, capsys, tmp_path, error, code, told):
    broken.append(error)
    assert main(["list"]) == code
    assert capsys.readouterr().err == told
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdbench.cli.train.run", interrupt)
    assert main(["train", "SOLVER.EPOCHS=1"]) == 130
    assert "run the same command again to continue" in capsys.readouterr().err


def test_messages_obey_no_control_character(monkeypatch, capsys):
    def warn(args):
        logging.getLogger("kdbench.test").warning("one\n\ttwo \x1b[31m%s", "\udcff")
        return 0

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr("kdbench.cli.listing.run", warn)
    assert main(["list"]) == 0
    assert capsys.readouterr().err == "one\n\ttwo \\x1b[31m\\udcff\n"


def test_help_names_the_option(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "--traceback" in capsys.readouterr().out
