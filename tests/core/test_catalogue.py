"""The catalogue: as the registries are, and never believed where it is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from child_python import run_python

import kdbench
from kdbench import catalogue
from kdbench.distillers.base import Distiller, distillers, register_distiller
from kdbench.registry import models

METHOD = '''
from kdbench import Distiller, register_distiller


@register_distiller("Installed")
class Installed(Distiller):
    """A method of another distribution."""

    defaults = {"T": float(3)}

    def losses(self, student, teacher, batch):
        return {"ce": self.cross_entropy(student.logits, batch)}
'''


def test_the_file_is_what_the_registries_say():
    """``python tools/catalogue.py`` writes it anew."""
    ours = {name for name in distillers.names() if distillers.get(name).__module__.startswith("kdbench.")}
    now, stored = catalogue.catalogue(), json.loads(catalogue.FILE.read_text(encoding="utf-8"))
    for part in ("digests", "datasets", "models", "large_image"):
        assert stored[part] == now[part], f"{part}: run python tools/catalogue.py"
    assert stored["methods"] == [row for row in now["methods"] if row["name"] in ours], "run python tools/catalogue.py"


def test_a_method_is_read_as_its_class_declares_it():
    stored = catalogue._stored_methods()
    for name in stored.names():
        method, cls = stored.get(name), distillers.get(name)
        assert (method.verified, method.reference) == (cls.verified, cls.reference)
        assert (method.teacher_needs, method.student_needs) == (cls.teacher_needs, cls.student_needs)
        for key in ("defaults", "presets", "domains", "effective"):
            assert catalogue._plain(getattr(method, key)) == catalogue._plain(getattr(cls, key)), (name, key)
        assert (method.min_batch, method.min_classes, method.added) == (cls.min_batch, cls.min_classes, cls.added)
        assert cls.reference, f"{name} cites nothing"
        assert all(distillers.get(alias) is cls for alias in method.aliases)
    assert stored.get("Vanilla").aliases == ("NONE",)


def test_networks_are_found_as_the_zoo_finds_them():
    code = (
        "import json, sys\n"
        "from kdbench.catalogue import _read, known_model\n"
        "names = [n for row in _read()['models'] for n in (row['name'], *row['aliases'])]\n"
        "sides = (0, 8, 32, 63, 64, 224)\n"
        "spelt = [n for name in names for n in (name, name.lower(), name.upper())]\n"
        "found = [(n, s, *known_model(n, s)) for n in spelt for s in sides]\n"
        "assert known_model('timm:resnet18') is None and known_model('resnet57') is None\n"
        "assert 'torch' not in sys.modules\n"
        "print(json.dumps(found))\n"
    )
    from kdbench.models.names import find_entry

    found = json.loads(run_python(code))
    assert len(found) > 500
    for name, side, *entry in found:
        expected = find_entry(name, side)
        assert entry == [expected.name, expected.tag], (name, side)


@pytest.mark.parametrize("change", ["a new method", "an edited default", "no file", "a damaged file"])
def test_a_stale_catalogue_is_not_believed(tmp_path, monkeypatch, change):
    root = tmp_path / "kdbench"
    shutil.copytree(Path(kdbench.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    if change == "a new method":
        (root / "distillers" / "installed.py").write_text(METHOD)
    elif change == "an edited default":
        file = root / "distillers" / "dkd.py"
        file.write_text(file.read_text().replace('"BETA": 8.0', '"BETA": 7.5').replace('"BETA": 8,', '"BETA": 7.5,'))
    elif change == "no file":
        (root / "catalogue.json").unlink()
    else:
        (root / "catalogue.json").write_text("{")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code = (
        "import kdbench, sys\n"
        "from kdbench.cli.main import main\n"
        "print(kdbench.__file__)\n"
        "print(kdbench.load_config(overrides=['DISTILLER.TYPE=DKD']).DKD.BETA)\n"
        "main(['list', 'methods'])\n"
        "print('torch' in sys.modules)\n"
    )
    lines = run_python(code).splitlines()
    assert lines[0] == str(root / "__init__.py")
    assert lines[1] == ("7.5" if change == "an edited default" else "8.0")
    assert any(line.startswith("Installed") for line in lines) is (change == "a new method")
    assert lines[-1] == "True"


def test_methods_of_installed_distributions_are_found(tmp_path):
    (tmp_path / "their_methods.py").write_text(METHOD)
    info = tmp_path / "their_methods-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-methods\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kdbench.distillers]\ninstalled = their_methods\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from kdbench import load_config\n"
        "print(load_config(overrides=['DISTILLER.TYPE=installed', 'INSTALLED.T=5']).INSTALLED.T)\n"
        "from kdbench.cli.main import main\n"
        "main(['list', 'methods', 'inst*', '--detail'])\n"
    )
    text = run_python(code)
    assert text.startswith("5.0")
    assert "A method of another distribution." in text


def test_a_method_registered_after_the_first_configuration_is_found():
    code = (
        "from kdbench import load_config\n"
        "load_config(overrides=['DISTILLER.TYPE=KD'])\n"
        f"exec({METHOD!r})\n"
        "print(load_config(overrides=['DISTILLER.TYPE=Installed+KD']).INSTALLED.T)\n"
    )
    assert run_python(code).strip() == "3.0"


def test_a_method_that_was_taken_back_is_known_no_longer():
    before = catalogue.methods().names()
    register_distiller("Passing")(type("Passing", (Distiller,), {"__doc__": "Here for a moment."}))
    try:
        assert set(catalogue.methods().names()) == {*before, "Passing"}
    finally:
        distillers.remove("passing")
    assert catalogue.methods().names() == before
    distillers.remove("passing")  # nothing is there to take away, and nothing happens
    assert catalogue.methods().names() == before


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("swin-t", "vit"),
        ("timm:swin_tiny_patch4_window7_224", "vit"),
        ("timm:resnet18", "cnn"),
        ("cifar:resnet20", "cnn"),
        ("small_mixer", "mlp"),
        ("timm:no_such_network", ""),
        ("no_such_network", ""),
    ],
)
def test_families_by_any_name(name, family):
    assert catalogue.family_of(name) == family


def test_the_family_of_a_network_of_ones_own():
    kdbench.register_model("a_net_of_mine", family="mlp", input_size=8)(lambda **options: None)
    try:
        assert catalogue.family_of("a_net_of_mine") == "mlp"
        assert catalogue.family_of("Swin-T") == "vit"
    finally:
        models.remove("a_net_of_mine")
