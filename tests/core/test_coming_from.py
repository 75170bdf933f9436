"""The commands of docs/coming-from.md are commands of kdbench."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kdbench.cli.main import _parse, build_parser
from kdbench.cli.options import config_from

PAGE = Path("docs/coming-from.md").read_text(encoding="utf-8")
COMMANDS = [
    words.split("kdbench ", 1)[1]
    for words in re.findall(r"`((?:torchrun [^`]*-m )?kdbench (?:train|eval) [^`]*)`", PAGE)
    if "--" in words and "res32x4_res8x4" not in words  # that is the reader's own copy
]


def test_there_are_some():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_understood(command):
    words = shlex.split(command.replace(" ...", ""))
    args = _parse(build_parser([words[0]]), words)
    cfg = config_from(args, "read")
    if words[0] == "train":
        assert cfg.TEACHER.WEIGHTS
        assert cfg.DISTILLER.TEACHER
