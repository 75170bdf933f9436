"""The floor plan: imports point one way between rooms, on every floor; the cheap doors stay cheap."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from child_python import run_python
from synthetic_runs import write_run

ROOT = Path(__file__).parents[2] / "kdbench"
#: Of each floor: its rooms, lowest first. A room may import itself and what stands before it; rooms of one entry, joined by a
#: comma, not each other.
FLOORS: dict[str, list[str]] = {
    "": [
        "errors, version, escape",
        "files, seal, logs, output, random, transfer, stopping",
        "paths, domains, streams, records",
        "processes",
        "plugins",
        "registry",
        "catalogue",
        "config",
        "models, data",
        "distillers",
        "functional",
        "engine",
        "bench, scaffold",
        "cli",
        "__init__, __main__",
    ],
    "config": [
        "defaults, names, yaml_text",
        "values",
        "rules, effects, files, node, teachers",
        "load",
        "identity, cohort",
    ],
    "models": [
        "spec, stage_names",
        "registry, backbone",
        "feature_model, networks",
        "wrapped",
        "names",
        "weights",
        "zoo",
        "describe",
    ],
    "data": [
        "source, prefetch, malloc, order",
        "augmentation, build, resident",
        "sets",
        "teacher_cache",
        "loader",
    ],
    "engine": [
        "run_folder, runtime, precision",
        "result, evaluation, parts",
        "identity",
        "teacher",
        "training",
        "session",
        "run",
        "train_teacher",
    ],
    "bench": [
        "grids",
        "results",
        "comparison",
        "paper",
        "pictures",
        "one_run, deployment",
        "machine",
        "running",
        "methods, speed",
    ],
}
#: arrows between the rooms of a floor
MOST_ARROWS = {"bench": 12, "models": 25, "data": 12}
#: rooms of one folder; the folder of methods holds a file a method, that of the command one a verb
MOST_ROOMS, CROWDED = 12, {"", "distillers", "cli"}
#: the package's front door, and what collects the methods' losses, look up names at run time
GROUND = {"__init__", "__main__"}


@functools.cache
def imports(file: Path) -> tuple[tuple[str, ...], ...]:
    """Modules of this package that a file imports, as paths below it; those for type checkers alone do not count."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[tuple[str, ...]]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "kdbench":
            base = tuple(node.module.split("."))[1:]
            for alias in node.names:
                place = ROOT.joinpath(*base, alias.name)
                is_module = place.is_dir() or place.with_suffix(".py").is_file()
                yield (*base, alias.name) if is_module else base
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split("."))[1:] for a in node.names if a.name.startswith("kdbench."))


def rooms(floor: str) -> set[str]:
    folder = ROOT / floor
    files = {p.stem for p in folder.glob("*.py") if p.stem != "__init__" or not floor}
    return files | {p.name for p in folder.iterdir() if (p / "__init__.py").is_file()}


@functools.cache
def arrows(floor: str) -> dict[tuple[str, str], str]:
    """Pairs of rooms of which the first imports the second, with an example."""
    base = tuple(filter(None, floor.split("/")))
    found = {}
    for file in sorted((ROOT / floor).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if len(parts) <= len(base) or (parts[-1] == "__init__" and len(parts) == len(base) + 1 and base):
            continue
        room = parts[len(base)]
        for target in imports(file):
            if target[: len(base)] == base and len(target) > len(base) and target[len(base)] != room:
                found.setdefault(
                    (room, target[len(base)]), f"{file.relative_to(ROOT)} imports kdbench.{'.'.join(target)}"
                )
    return found


FOLDERS = sorted({str(p.parent.relative_to(ROOT)).replace(".", "") for p in ROOT.rglob("__init__.py")} - {"distillers"})


@pytest.mark.parametrize("floor", FLOORS)
def test_every_room_has_its_place(floor):
    planned = [room.strip() for entry in FLOORS[floor] for room in entry.split(",")]
    assert sorted(planned) == sorted(rooms(floor))


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_one_way(floor):
    level = {room.strip(): number for number, entry in enumerate(FLOORS[floor]) for room in entry.split(",")}
    upward = [text for (room, target), text in arrows(floor).items() if level[target] >= level[room]]
    assert upward == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_circle(folder):
    """Between the rooms of any folder, also of those whose order is not written down here."""
    left = {room: {b for a, b in arrows(folder) if a == room} for room in rooms(folder)}
    while True:
        ends = [room for room, targets in left.items() if not targets & left.keys()]
        if not ends:
            break
        for room in ends:
            del left[room]
    assert not left


@pytest.mark.parametrize(("floor", "most"), MOST_ARROWS.items())
def test_few_arrows(floor, most):
    assert len(arrows(floor)) <= most


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_is_crowded(folder):
    assert folder in CROWDED or len(rooms(folder)) <= MOST_ROOMS


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder])
def test_each_folder_says_what_is_in_it(folder):
    """``__init__.py`` is the floor plan: it names every room."""
    text = (ROOT / folder / "__init__.py").read_text(encoding="utf-8")
    missing = [room for room in sorted(rooms(folder)) if f"{room}" not in text]
    assert missing == []


def test_the_command_is_imported_by_nobody():
    for file in ROOT.rglob("*.py"):
        inside = file.relative_to(ROOT).parts[0] in ("cli", "__main__.py")
        assert inside or not any(target[:1] == ("cli",) for target in imports(file)), file


def test_no_branch_on_a_methods_name():
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                text = ast.unparse(node)
                assert "DISTILLER.TYPE ==" not in text, f"{file}:{node.lineno}"
                assert "DISTILLER.TYPE in" not in text, f"{file}:{node.lineno}"


def test_import_and_list_do_not_load_torch():
    code = (
        "import sys, kdbench\n"
        "from kdbench.cli.main import main\n"
        "main(['list']); main(['list', 'models']); main(['list', 'datasets'])\n"
        "assert not {'torch', 'timm', 'pandas'} & set(sys.modules), 'a heavy module was imported'\n"
    )
    assert "small_cnn" in run_python(code)


def test_a_dry_run_does_not_load_torch():
    code = (
        "import sys\n"
        "from kdbench.cli.main import main\n"
        "assert main(['grid', 'table1', '--dry-run', '--no-probe']) == 0\n"
        "assert not {'torch', 'timm', 'pandas'} & set(sys.modules), 'a heavy module was imported'\n"
    )
    assert "million training images" in run_python(code)


def test_tables_do_not_load_torch(tmp_path):
    """Importing it takes 0.9 GB where it is freshly installed, and timm 1.1 GB: a table of 5,000 runs is to fit into 1 GB."""
    from kdbench.bench.grids.grid_file import load_grid

    for cell in load_grid("configs/grids/table3.yaml", seeds=1, weights=False).cells[:2]:
        write_run(
            tmp_path,
            method=cell.method,
            seed=1,
            top1=70.0,
            cfg=cell.cfg,
            dataset="imagenet",
            teacher=cell.teacher,
            student=cell.student,
            name=cell.method,
        )
    code = (
        "import sys\n"
        "from kdbench.cli.main import main\n"
        f"assert main(['table', {str(tmp_path)!r}, '--paper', 'all', '--quiet']) == 0\n"
        f"assert main(['table', {str(tmp_path)!r}, '--quiet']) == 0\n"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules), 'a heavy module was imported'\n"
    )
    text = run_python(code)
    assert "Table 7" in text
    assert "70.00" in text
