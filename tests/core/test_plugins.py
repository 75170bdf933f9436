"""Plug-ins: entry points by their group's name, present and former, and files that are edited."""

from __future__ import annotations

import sys

import pytest
from child_python import run_python

from kdbench.errors import KdbenchError
from kdbench.plugins import DATASETS, METHODS, MODELS, import_plugins

PACKAGE = '''
from kdbench.data.source import register_dataset

@register_dataset("brought")
def brought(root=""):
    """Of a package."""
'''
LISTED = """
from kdbench.cli.main import main
from kdbench.data.build import list_datasets
main(["list", "datasets"])
print(list_datasets("brought"))
"""


def installed(folder, group: str) -> None:
    """A package with one entry point, as pip leaves it."""
    (folder / "brings_data.py").write_text(PACKAGE)
    info = folder / "brings_data-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brings-data\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nbrought = brings_data\n")


@pytest.mark.parametrize("group", ["kdbench.datasets", "kdbench.data"])
def test_a_packages_data_sets_are_listed_and_found(tmp_path, monkeypatch, group):
    installed(tmp_path, group)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:.")
    shown = run_python(LISTED)
    assert "Of a package." in shown
    assert shown.splitlines()[-1] == "['brought']"


def test_groups_have_one_name_each():
    assert (METHODS, MODELS, DATASETS) == ("kdbench.distillers", "kdbench.models", "kdbench.datasets")


@pytest.fixture
def plugin(tmp_path):
    yield tmp_path / "counted.py"
    for name in [name for name in sys.modules if name.startswith("kdbench_plugin_counted")]:
        del sys.modules[name]


def test_an_edited_file_is_run_anew_and_an_unchanged_one_is_not(plugin):
    plugin.write_text("VALUE, SEEN = 1, object()\n")
    import_plugins([str(plugin)])
    first = sys.modules["kdbench_plugin_counted"]
    import_plugins([str(plugin)])
    assert sys.modules["kdbench_plugin_counted"] is first
    plugin.write_text("VALUE = 2\n")
    import_plugins([str(plugin)])
    assert sys.modules["kdbench_plugin_counted"].VALUE == 2


def test_a_file_that_breaks_leaves_what_was_there(plugin):
    plugin.write_text("VALUE = 1\n")
    import_plugins([str(plugin)])
    plugin.write_text("VALUE = (\n")
    with pytest.raises(KdbenchError, match=r"--import .*counted\.py"):
        import_plugins([str(plugin)])
    assert sys.modules["kdbench_plugin_counted"].VALUE == 1


def test_two_files_of_one_name_are_two_modules(plugin, tmp_path):
    other = tmp_path / "sub" / "counted.py"
    other.parent.mkdir()
    for file, value in ((plugin, 1), (other, 2)):
        file.write_text(f"VALUE = {value}\n")
        import_plugins([str(file)])
    assert sys.modules["kdbench_plugin_counted"].VALUE == 1
    assert sys.modules["kdbench_plugin_counted_2"].VALUE == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 / 0\n", r"ZeroDivisionError: division by zero \(line 1\)"),
        ("\nundefined\n", r"NameError: name 'undefined' is not defined \(line 2\)"),
        ("raise SystemExit(0)\n", "SystemExit: 0"),
        ("import sys\nsys.exit('bye')\n", "SystemExit: bye"),
        ("class Own(BaseException): pass\nraise Own('x')\n", r"Own: x \(line 2\)"),
        ("import no_such_module_anywhere\n", "No module named 'no_such_module_anywhere'"),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(plugin, text, told):
    plugin.write_text(text)
    with pytest.raises(KdbenchError, match=f"--import .*counted\\.py: .*{told}"):
        import_plugins([str(plugin)])
