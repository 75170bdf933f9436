"""Imports point one way, and the cheap doors stay cheap."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from child_python import run_python
from synthetic_runs import write_run

ROOT = Path(__file__).parents[2] / "kdbench"
#: a layer may import itself, those before it, and the modules that lie in no layer, which import none
ORDER = ["models", "data", "distillers", "engine", "bench", "cli"]
FORBIDDEN = {"models": {"data", "distillers"}, "data": {"distillers"}, "distillers": {"data"}}
#: `config` needs the methods' names and defaults, which `distillers.registry` tells without importing one; `functional`
#: collects their losses
ALLOWED = {("config.py", "distillers"), ("functional.py", "distillers")}


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in getattr(node, "names", [])]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {name.split(".")[1] for name in names if name and name.startswith("kdbench.")}
    return found


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(file):
    relative = file.relative_to(ROOT)
    layer = relative.parts[0] if len(relative.parts) > 1 else None
    for name in imported(file):
        if (str(relative), name) in ALLOWED or name not in ORDER or name == layer:
            continue
        if layer is None:
            assert relative.stem in ("__init__", "__main__"), f"{relative} imports {name}"
            continue
        assert ORDER.index(name) < ORDER.index(layer), f"{relative} imports {name}"
        assert name not in FORBIDDEN.get(layer, set()), f"{relative} imports {name}"


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


def test_catalogue_finds_what_the_zoo_finds():
    from kdbench.models.catalog import catalogued, read_catalog
    from kdbench.models.names import find_entry
    from kdbench.models.networks.paper_names import PAPER

    aliases = [alias for paper in PAPER.values() for alias in paper.aliases]
    assert len(aliases) == 4
    for name in [*(row["name"] for row in read_catalog()), *aliases]:
        for side in (0, 8, 32, 63, 64, 224):
            for spelt in (name, name.lower(), name.upper()):
                entry = find_entry(spelt, side)
                assert catalogued(spelt, side) == (entry.name, entry.tag), (spelt, side)
    assert catalogued("timm:resnet18") is None
    assert catalogued("resnet57") is None


def test_static_index_says_what_the_classes_say():
    from kdbench.distillers.registry import distillers
    from kdbench.static_index import read_index

    index = read_index("distillers", "register_distiller")
    assert index.whole
    entries = {entry.name: entry for entry in index.entries}
    assert set(entries) == {
        name for name in distillers.names() if distillers.get(name).__module__.startswith("kdbench.")
    }
    for name, entry in entries.items():
        cls = distillers.get(name)
        assert entry.attributes["verified"] == cls.verified
        assert set(entry.attributes["teacher_needs"]) == set(cls.teacher_needs)
        assert entry.attributes["defaults"] == cls.defaults
        assert entry.attributes["presets"] == cls.presets
        assert entry.attributes["domains"] == cls.domains
        assert (entry.attributes["min_batch"], entry.attributes["min_classes"]) == (cls.min_batch, cls.min_classes)
        assert cls.reference, f"{name} cites nothing"
        assert entry.summary == " ".join(cls.__doc__.split("\n\n")[0].split())
        assert all(distillers.get(alias) is cls for alias in entry.aliases)
    assert entries["Vanilla"].aliases == ("NONE",)
