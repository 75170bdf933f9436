"""The tool from its command line to its files, on a CPU; every part in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from kdbench.bench.speed.gpu import conduct as room
from kdbench.bench.speed.gpu.conduct import conduct
from kdbench.bench.speed.gpu.parts import NAMES, PARTS, part_named
from kdbench.bench.speed.gpu.settings import Settings, settings_for


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("gpu_tool", Path(__file__).parents[4] / "tools" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _signals(monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *given: None)


def files(folder: Path) -> tuple[dict, str]:
    return json.loads((folder / "gpu.json").read_text(encoding="utf-8")), (folder / "gpu.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
def test_two_parts(tool, tmp_path, capsys):
    words = ["--device", "cpu", "--only", "environment,methods", "--methods", "KD", "--out", str(tmp_path)]
    assert tool.main([*words, "--minutes", "20"]) == 0
    assert capsys.readouterr().out.splitlines() == ["environment: done", "methods: done", str(tmp_path / "gpu.md")]
    results, page = files(tmp_path)
    assert results["parts"]["environment"]["device"] == "cpu"
    (row,) = results["parts"]["methods"]["rows"]
    assert row["method"] == "KD"
    assert row["equal"]
    assert {name for name, found in results["parts"].items() if "error" in found} == set(NAMES) - {
        "environment",
        "methods",
    }
    assert page.count("not asked for (--only)") == len(NAMES) - 2
    assert results["targets"]


def test_a_part_that_takes_too_long_is_cut_off_and_the_next_one_done(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_LEAST", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    parts = (replace(part_named("methods"), limit=1.0), part_named("ddp"))
    monkeypatch.setattr(room, "PARTS", parts)
    results = conduct(settings_for("cpu", ("KD",)), tmp_path)
    assert results["parts"]["methods"] == {"error": "cut off at its limit of 1 s"}
    assert not list((tmp_path / "temporary").iterdir())
    assert results["parts"]["ddp"]["rows"]


def test_what_finds_no_time_is_said(tmp_path):
    results = conduct(settings_for("cpu"), tmp_path, minutes=0.05)
    assert {found["error"] for found in results["parts"].values()} == {"not run: the time was used up"}
    assert files(tmp_path)[0] == results


def test_a_crash_costs_its_part(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_MODULE", "kdbench.no_such_module")
    results = conduct(settings_for("cpu"), tmp_path, only=["ddp", "compile"])
    for name in ("ddp", "compile"):
        assert results["parts"][name]["error"].startswith("its process ended with code 1: ")
        assert "no_such_module" in results["parts"][name]["error"]


@pytest.mark.slow
def test_processes_beside_each_other(tmp_path, monkeypatch):
    """As on a GPU; the children compute on the CPU."""
    monkeypatch.setattr(Settings, "is_gpu", property(lambda settings: True))
    results = conduct(settings_for("cpu", ("Vanilla", "KD")), tmp_path, minutes=20, only=["methods"])
    assert [row["method"] for row in results["parts"]["methods"]["rows"]] == ["KD", "Vanilla"]
    assert all(row["equal"] for row in results["parts"]["methods"]["rows"])


def test_shares_of_a_part_are_put_together():
    first = {"tolerances": 1, "rows": [{"method": "KD"}]}
    second = {"tolerances": 1, "rows": [{"method": "AT"}], "error": "cut off"}
    whole = room._merged([first, second, {"error": "cut off"}])
    assert whole == {"tolerances": 1, "rows": [{"method": "AT"}, {"method": "KD"}], "error": "cut off"}


def test_methods_are_shared_out_on_a_gpu():
    part = part_named("methods")
    shares = room._shares(part, settings_for("cuda"))
    assert len(shares) == 4
    named = [name for settings, _ in shares for name in settings.methods]
    assert sorted(named) == sorted(set(named))
    assert {"KD", "HCD"} < set(named)
    assert len(room._shares(part, settings_for("cuda", ("KD", "AT")))) == 2
    assert len(room._shares(part_named("profile"), settings_for("cuda"))) == 3


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_has_its_function(part):
    assert callable(part.load())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "speed"], "--only: speed is none of environment, methods"),
        (["--methods", "KD,NOPE"], "--methods: NOPE is none of"),
        (["--device", "cpu", "--peer", "nowhere.py"], "--peer: nowhere.py is no file"),
        (["--device", "cpu", "--minutes", "0"], "--minutes expects a number between 0 and 600, got 0"),
        ([], "no GPU is visible; --device cpu rehearses"),
    ],
)
def test_wrong_arguments_are_told_in_a_line(tool, tmp_path, words, message, capsys):
    assert tool.main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_all_parts(tool, tmp_path):
    peer = tmp_path / "mdistiller_stub.py"
    peer.write_text("def steps(device):\n    return lambda n: 8 * n\n", encoding="utf-8")
    words = ["--device", "cpu", "--methods", "KD,CRD,HCD", "--peer", str(peer), "--out", str(tmp_path)]
    assert tool.main([*words, "--minutes", "60"]) == 0
    results, page = files(tmp_path)
    assert [row["method"] for row in results["parts"]["methods"]["rows"]] == ["KD", "CRD", "HCD"]
    assert all(row["equal"] and row["agrees"] for row in results["parts"]["methods"]["rows"])
    assert all(row["twice"] and row["resumed"] for row in results["parts"]["determinism"]["rows"])
    assert all(row["twice"] and row["plain"] for row in results["parts"]["ddp"]["rows"])
    for part, names in (
        ("small", ["plain loop, fp32", "peer mdistiller_stub"]),
        ("large", ["plain loop", "cohort of 7", "HCD"]),
    ):
        rows = {row["name"]: row for row in results["parts"][part]["rows"]}
        assert set(names) < set(rows)
        assert all(row["ratio"] > 0 for row in rows.values())
        assert set(results["parts"][part]["missing"].values()) == {"takes a GPU"}
    assert results["parts"]["compile"]["missing"] == {"SOLVER.COMPILE": "takes a GPU"}
    assert "## Where a step's time goes" in page
