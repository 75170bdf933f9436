"""The rooms of bench: imports point one way, and what only reads results does not import torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from child_python import run_python

import kdbench

ROOT = Path(kdbench.__file__).parent / "bench"
#: rooms that a room may import; ``known_data.py`` is no room, and imports none
MAY = {
    "grids": set(),
    "results": {"grids"},
    "comparison": {"results"},
    "paper": {"grids", "results", "comparison"},
    "pictures": {"results", "comparison", "paper"},
    "one_run": set(),
    "deployment": set(),
    "machine": {"results"},
    "running": {"grids", "results", "machine"},
    "methods": set(),
    "speed": set(),
}
#: without torch, which takes seconds and half a gigabyte, and without what only a few of their functions use
LIGHT = ("grids", "results", "comparison", "paper", "pictures")
HEAVY = ("torch", "torchvision", "timm", "scipy", "matplotlib", "rich", "ray", "submitit", "optuna")


def modules(room: str) -> list[str]:
    return [
        f"kdbench.bench.{room}.{file.stem}" for file in sorted((ROOT / room).glob("*.py")) if file.stem != "__init__"
    ]


def imported(file: Path) -> set[str]:
    """Rooms of bench that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[2] for name in names if name.startswith("kdbench.bench.")}
    return found


def test_every_room_is_known():
    assert {folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file()} == set(MAY)
    for file in ROOT.glob("*.py"):
        assert file.name in ("__init__.py", "known_data.py")
        assert imported(file) == set()


@pytest.mark.parametrize("room", MAY)
def test_a_room_imports_those_that_it_may_and_its_plan_names_every_file(room):
    for file in (ROOT / room).glob("*.py"):
        outside = imported(file) - {room, "known_data"}
        assert outside <= MAY[room], f"{file} imports {outside - MAY[room]}"
    plan = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")))
    rows = {line.split("``")[1] for line in plan.splitlines() if line.startswith("``")}
    inner = {f"{entry.parent.name}/" for entry in (ROOT / room).glob("*/__init__.py")}
    assert rows == {file.name for file in (ROOT / room).glob("*.py")} - {"__init__.py"} | inner


def test_rooms_make_no_circle():
    done: set[str] = set()
    while len(done) < len(MAY):
        free = {room for room, below in MAY.items() if room not in done and below <= done}
        assert free, f"a circle among {set(MAY) - done}"
        done |= free


@pytest.mark.parametrize("room", LIGHT)
def test_what_reads_results_imports_nothing_heavy(room):
    code = f"import importlib, sys\nfor name in {modules(room)}:\n    importlib.import_module(name)\n"
    code += f"print(sorted({{name.partition('.')[0] for name in sys.modules}} & set({HEAVY})))"
    assert run_python(code).strip() == "[]"
