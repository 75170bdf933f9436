"""Imports point one way, and the cheap doors stay cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "kdbench"
#: a layer may import itself, those before it, and the foundations
ORDER = ["models", "data", "distillers", "engine", "bench", "cli"]
FOUNDATIONS = {
    "errors",
    "registry",
    "config",
    "config_checks",
    "config_defaults",
    "config_values",
    "logs",
    "plugins",
    "random",
    "static_index",
    "__init__",
}
#: `config` reads the methods' defaults when a configuration is built, not when it is imported
FORBIDDEN = {"models": {"data", "distillers"}, "data": {"distillers"}, "distillers": {"data"}}
#: inside a function: look-ups that would otherwise turn the layers round
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "small_cnn" in done.stdout


def test_recipes_on_the_networks_of_the_tables_do_not_load_timm():
    code = (
        "import sys\n"
        "from kdbench.bench.recipe import recipe\n"
        "from kdbench.config import load_config, to_dict\n"
        "words = ['DISTILLER.TYPE=KD', 'DISTILLER.TEACHER=Swin-T', 'DISTILLER.STUDENT=ResNet18', 'DATASET.IMAGE_SIZE=224']\n"
        "found = recipe(to_dict(load_config(overrides=words)))\n"
        "print(found['DISTILLER.TEACHER'], '|', found['DISTILLER.STUDENT'])\n"
        "assert not {'timm', 'torchvision'} & set(sys.modules), 'a heavy module was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "timm swin_tiny_patch4_window7_224.ms_in1k | timm resnet18"


def test_static_index_says_what_the_classes_say():
    from kdbench.distillers.base import distillers
    from kdbench.static_index import declared

    entries = {entry.name: entry for entry in declared("distillers", "register_distiller")}
    assert set(entries) == {
        name for name in distillers.names() if distillers.get(name).__module__.startswith("kdbench.")
    }
    for name, entry in entries.items():
        cls = distillers.get(name)
        assert entry.attributes.get("verified", "unverified") == cls.verified
        assert set(entry.attributes.get("teacher_needs", {"logits"})) == set(cls.teacher_needs)
        assert cls.reference, f"{name} cites nothing"
        assert entry.summary == " ".join(cls.__doc__.split("\n\n")[0].split())
