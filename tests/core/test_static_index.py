"""What is read from the source of methods, and when their classes must be asked instead."""

from __future__ import annotations

import pytest
from child_python import run_python

from kdbench.static_index import read_index

BASE = '''
def register(name, *, aliases=()):
    """@register({name!r}) decorates a class"""


class Distiller(nn.Module):
    defaults: ClassVar[dict] = {}
    presets: ClassVar[dict] = {}
    verified: str = "unverified"
'''


@pytest.fixture
def read(tmp_path):
    """Index of a package with :data:`BASE` and one more file."""
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "base.py").write_text(BASE)

    def inner(text: str):
        (folder / "more.py").write_text(text)
        return read_index("methods", "register", tmp_path)

    return inner


def test_literals_docstring_and_aliases(read):
    index = read('''
@register("B", aliases=("bb", "bee"))
class B(Distiller):
    """First
    paragraph.

    Second."""

    defaults = {"T": 4.0, "LOSS": {"CE": 1}}
    needs: set[str] = set()


@kdbench.register("a")
class A(B):
    defaults = {**B.defaults, "T": 2.0}
''')
    assert index.whole
    a, b = index.entries
    assert (b.name, b.aliases, b.summary) == ("B", ("bb", "bee"), "First paragraph.")
    assert b.attributes["defaults"] == {"T": 4.0, "LOSS": {"CE": 1}}
    assert (b.attributes["verified"], b.attributes["presets"], b.attributes["needs"]) == ("unverified", {}, set())
    assert a.attributes["defaults"] == {"T": 2.0, "LOSS": {"CE": 1}}
    assert not a.unread | b.unread


def test_attributes_come_from_the_class_that_python_would_take_them_from(read):
    index = read("""
class Left(Distiller):
    verified = "left"


class Right(Distiller):
    verified = "right"
    presets = {"x": {}}


@register("A")
class A(Left, Right):
    pass
""")
    [a] = index.entries
    assert a.attributes["verified"] == "left"
    assert a.attributes["presets"] == {"x": {}}


def test_a_frozen_set_is_a_literal_and_what_is_taken_from_another_class_is_a_copy(read):
    index = read("""
@register("A")
class A(Distiller):
    defaults = {"LOSS": {"CE": 1}}
    needs = frozenset({"logits"})


@register("B")
class B(A):
    defaults = {**A.defaults, "T": 1.0}
""")
    a, b = (entry.attributes for entry in index.entries)
    assert a["needs"] == b["needs"] == frozenset({"logits"})
    assert a["defaults"]["LOSS"] == b["defaults"]["LOSS"]
    assert a["defaults"]["LOSS"] is not b["defaults"]["LOSS"]


@pytest.mark.parametrize(
    "body",
    [
        'class A(Distiller):\n    defaults = {"T": math.pi}',
        "class A(Distiller):\n    defaults = dict(T=1)",
        'class A(Distiller):\n    defaults = {**elsewhere.defaults, "T": 1}',
        "class A(SomebodysMethod):\n    verified = 'yes'",
        "class A(SomebodysMixin, Distiller):\n    verified = 'yes'",
    ],
)
def test_what_is_no_literal_is_unread(read, body):
    [a] = read(f'@register("A")\n{body}\n').entries
    assert "defaults" in a.unread
    assert "defaults" not in a.attributes


def test_an_own_value_hides_what_a_base_from_elsewhere_may_set(read):
    [a] = read('@register("A")\nclass A(SomebodysMethod):\n    defaults = {}\n    presets = {}\n').entries
    assert a.attributes["defaults"] == {}
    assert not {"defaults", "presets"} & a.unread


def test_a_base_of_a_name_that_two_classes_have_is_not_guessed(read):
    [a] = read(
        'class Distiller:\n    defaults = {"other": 1}\n\n\n@register("A")\nclass A(Distiller):\n    verified = "yes"\n'
    ).entries
    assert {"defaults", "presets"} <= a.unread


@pytest.mark.parametrize(
    "text",
    [
        '@register(NAME)\nclass A(Distiller):\n    """."""',
        'register("A")(make())',
        'if True:\n    @register("A")\n    class A(Distiller):\n        """."""',
        '@register("A")\nclass A(Distiller):\n    """."""\n\n@register("a")\nclass B(Distiller):\n    """."""',
        '@register("A", aliases=names())\nclass A(Distiller):\n    """."""',
    ],
)
def test_a_registration_that_cannot_be_read_is_noticed(read, text):
    assert not read(text + "\n").whole


def test_a_package_without_source_is_not_whole(tmp_path):
    assert not read_index("methods", "register", tmp_path).whole


METHOD = '''
from kdbench import Distiller, register_distiller


@register_distiller("Installed")
class Installed(Distiller):
    """A method of another distribution."""

    defaults = {"T": float(3)}

    def losses(self, student, teacher, batch):
        return {"ce": self.cross_entropy(student.logits, batch)}
'''


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
        "main(['list', 'methods', 'inst*'])\n"
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
