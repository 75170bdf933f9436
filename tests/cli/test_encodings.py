"""Terminals and file names that are not UTF-8: a sign is replaced, nothing breaks."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from replicas import class_tree
from synthetic_runs import write_run

from kdbench.cli.main import main
from kdbench.streams import any_encoding

LATIN = os.fsdecode(b"gr\xfcn")  # a file name in Latin-1
ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "strict Latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
    "LANG=C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def kdbench(words, **environment):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHONIO"))}
    command = [sys.executable, "-m", "kdbench", *words]
    done = subprocess.run(command, capture_output=True, check=False, env={**kept, **environment}, timeout=120)
    assert b"Traceback" not in done.stderr, done.stderr.decode("utf-8", "replace")
    return done


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Runs of names with umlauts and arrows, below a folder whose name is not UTF-8."""
    folder = tmp_path_factory.mktemp("runs") / LATIN
    for method in ("KD", "Größe → 漢"):
        for seed in (1, 2):
            write_run(
                folder, method=method, seed=seed, top1=70.0 + seed, teacher="Lehrer-ä", name=f"{method}-{seed}-{LATIN}"
            )
    return folder


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table(results, tmp_path, encoding):
    done = kdbench(["table", str(results), "--out", str(tmp_path / LATIN)], **ENCODINGS[encoding])
    assert done.returncode == 0
    assert b"Lehrer-\\xe4" in done.stdout or "Lehrer-ä".encode("latin-1") in done.stdout
    assert b"71.50 +- 0.71 (2)" in done.stdout or b"71.50 \xb1 0.71 (2)" in done.stdout
    assert "± 0.71" in (tmp_path / LATIN / "table.md").read_text(encoding="utf-8")
    if encoding != "strict Latin-1":
        done.stdout.decode("ascii")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_errors_statistics_and_lists(results, encoding):
    stats = kdbench(["table", str(results), "--stats"], **ENCODINGS[encoding])
    assert stats.returncode == 0
    wrong = kdbench(["table", str(results), "--baseline", "Größe"], **ENCODINGS[encoding])
    assert wrong.returncode == 2
    assert wrong.stderr.count(b"\n") == 1
    nowhere = kdbench(["table", str(results / "nö" / LATIN)], **ENCODINGS[encoding])
    assert (nowhere.returncode, nowhere.stderr.count(b"\n")) == (2, 1)
    assert kdbench(["list", "methods"], **ENCODINGS[encoding]).returncode == 0


@pytest.mark.parametrize(
    "words", [["--paper", "1"], ["--paper", "2", "--format", "latex"], ["--paper", "3", "--format", "csv"]]
)
def test_tables_of_the_paper(results, words):
    assert kdbench(["table", str(results), *words], PYTHONIOENCODING="ascii").returncode == 0


def test_a_grids_status(tmp_path):
    (tmp_path / "grid.json").write_text(
        '{"name": "größe → ±", "pairs": ["ä → ö"], "methods": ["KD"], "baseline": "KD", "teachers": {}, '
        '"cells": [{"pair": "ä → ö", "method": "KD", "seed": 1, "run": null, "error": "ü \\ud800"}]}'
    )
    done = kdbench(["grid", str(tmp_path), "--status"], PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert b"\\xe4 -> \\xf6" in done.stdout


def test_streams_are_as_they_were_afterwards(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    with any_encoding():
        print("ü ± → \udcff", file=sys.stdout)
    assert stream.errors == "strict"
    assert stream.buffer.getvalue() == b"\\xfc +- -> \\udcff\n"
    with pytest.raises(UnicodeEncodeError):
        stream.write("ü")


def test_images_whose_names_are_not_utf8_are_read(tmp_path, capsys):
    tree = class_tree(tmp_path / "set", ["cat", LATIN], {"train": 4, "val": 2})
    words = ["train", f"DATASET.TYPE=folder:{tree}", "DATASET.IMAGE_SIZE=8", "AUGMENT.CROP=none", "SOLVER.EPOCHS=1"]
    words += [
        "--student",
        "small_cnn",
        "SOLVER.BATCH_SIZE=4",
        "DATASET.NUM_WORKERS=0",
        f"LOG.PREFIX={tmp_path / 'runs'}",
    ]
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("Vanilla: top-1 ")


def test_a_run_below_a_folder_whose_name_is_not_utf8(tmp_path, capsys):
    place = f"{tmp_path}/{LATIN}"
    words = [
        "train",
        "--cfg",
        "configs/digits/student.yaml",
        "SOLVER.EPOCHS=1",
        "SOLVER.WARMUP_EPOCHS=0",
        "DATASET.REPEAT=1",
    ]
    # quiet: what is logged goes into the test's report, which is written as UTF-8
    assert main([*words, f"LOG.PREFIX={place}", "--quiet"]) == 0
    [run] = [entry.name for entry in os.scandir(place)]
    assert main(["eval", "--run", f"{place}/{run}", "--quiet"]) == 0
    assert (
        main(["table", place, "--out", f"{tmp_path}/out-{LATIN}", "--plots", f"{tmp_path}/out-{LATIN}", "--quiet"]) == 0
    )
    assert main(["cache", "ls", f"LOG.PREFIX={place}", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert r"gr\udcfcn" in printed.out
    assert len(os.listdir(f"{tmp_path}/out-{LATIN}")) == 10
