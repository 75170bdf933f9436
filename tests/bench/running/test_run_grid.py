"""Running a grid: teachers first, equal cells shared, failures isolated, nothing run twice."""

from __future__ import annotations

import json

import pytest
from small_grids import two_teachers

from kdbench.bench.running.run_grid import run_grid
from kdbench.engine.training.tracking.tracker import trackers
from kdbench.errors import ConfigError


def test_grid_runs_each_cell_once_and_shares_equal_ones(tmp_path):
    lines = []
    report = run_grid(two_teachers(tmp_path), prefix=str(tmp_path / "runs"), jobs=2, threads=1, announce=lines.append)
    assert report.ok, report.failed
    assert len(lines) == 2 + 2 + 4  # two teachers, two students alone (shared by both rows), four under teachers
    record = json.loads((report.folder / "grid.json").read_text())
    assert len(record["cells"]) == 8
    assert len({cell["run"] for cell in record["cells"]}) == 6
    again = []
    run_grid(two_teachers(tmp_path), prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=again.append)
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 8


def test_a_run_whose_student_is_gone_is_not_done(tmp_path):
    file = two_teachers(tmp_path, METHODS=["Vanilla"], SEEDS=[1])
    first = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1)
    students = sorted((tmp_path / "runs").rglob("student.safetensors"))
    content = students[0].read_bytes()
    students[0].unlink()
    lines = []
    again = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=lines.append)
    assert students[0].read_bytes() == content
    assert sum("done before" not in line for line in lines) == 1
    assert {r.run_id for r in again.results.values()} == {r.run_id for r in first.results.values()}


def test_failing_cell_and_failing_teacher_leave_the_rest_alone(tmp_path):
    methods = ["Vanilla", {"TYPE": "LDRLD", "SET": {"LDRLD.K": 99}}]
    teachers = {"A": {"CFG": "teacher.yaml"}, "B": {"CFG": "teacher.yaml", "SET": {"STUDENT.STAGES": [9]}}}
    lines = []
    file = two_teachers(tmp_path, METHODS=methods, TEACHERS=teachers, SEEDS=[1])
    report = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=lines.append)
    reasons = "\n".join(report.failed.values())
    assert "expects 2 to 9" in reasons
    assert "its teacher B failed" in reasons
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 2  # teacher A and the student alone


def test_a_teacher_whose_bits_flipped_teaches_nobody(tmp_path):
    """Cells that are added later learn from the network from which the earlier ones learned."""
    file = two_teachers(tmp_path, METHODS=["KD"], SEEDS=[1])
    run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1)
    teacher = next((tmp_path / "runs").rglob("Vanilla-small_mixer-*")) / "student.safetensors"
    content = teacher.read_bytes()
    teacher.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    lines = []
    more = two_teachers(tmp_path, METHODS=["KD"], SEEDS=[1, 2])
    report = run_grid(more, prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=lines.append)
    assert report.ok, report.failed
    assert teacher.read_bytes() == content
    assert len({result.teacher_sha256 for result in report.results.values() if result.teacher}) == 2  # two teachers


def test_a_tracker_that_is_not_there_is_said_before_a_teacher_is_trained(tmp_path, monkeypatch):
    class Away:
        requires = "no_such_package"

    monkeypatch.setitem(trackers._entries, "away", ("away", Away))
    file = two_teachers(tmp_path)
    with pytest.raises(ConfigError, match="pip install no_such_package"):
        run_grid(file, overrides=["LOG.TRACKERS=[away]"], prefix=str(tmp_path / "runs"), jobs=1)
    assert not (tmp_path / "runs").exists()
