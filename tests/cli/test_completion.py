"""Shell completion, and options before the verb."""

from __future__ import annotations

import builtins
import shutil
import subprocess

import pytest

from kdbench.cli.main import VERBS, main


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_verbs_and_options(capsys):
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    ask = 'COMP_WORDS=({words}); COMP_CWORD={place}; _shtab_kdbench 2>/dev/null; printf "%s\\n" "${{COMPREPLY[@]}}"'

    def completed(*words: str) -> set[str]:
        code = script + "\n" + ask.format(words=" ".join(f"'{word}'" for word in words), place=len(words) - 1)
        return set(subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split())

    assert completed("kdbench", "") >= set(VERBS)
    assert "--dry-run" in completed("kdbench", "grid", "--d")
    assert "--per-class" in completed("kdbench", "eval", "--p")


def test_mistakes(capsys, monkeypatch):
    assert main(["completion", "fish"]) == 2
    assert "none of bash, zsh, tcsh" in capsys.readouterr().err
    real = builtins.__import__

    def without(name, *args, **options):
        if name == "shtab":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["completion"]) == 2
    assert "pip install 'kdbench[completion]'" in capsys.readouterr().err


def test_options_may_stand_before_the_verb(capsys):
    assert main(["--json", "list", "datasets"]) == 0
    before = capsys.readouterr().out
    assert main(["list", "datasets", "--json"]) == 0
    assert capsys.readouterr().out == before
    assert main(["xyz", "train"]) == 2
    assert "unknown verb 'xyz'" in capsys.readouterr().err
