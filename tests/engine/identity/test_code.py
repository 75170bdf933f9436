"""The user's own code is part of what a run is: edited, it is run again, and what changed is said."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import pytest
from small_settings import SMALL

import kdbench
from kdbench import plugins
from kdbench.bench.running.run_grid import run_grid
from kdbench.bench.running.run_task import run_task
from kdbench.cli.main import main
from kdbench.data.source import datasets
from kdbench.distillers.base import Distiller, distillers
from kdbench.engine.identity.code import Code, code_of
from kdbench.engine.session import prepare as prepare_module
from kdbench.errors import KdbenchError
from kdbench.models.registry import models
from kdbench.plugins import import_plugins

METHOD = '''
from kdbench.distillers.base import Distiller
from kdbench import register_distiller
{head}

@register_distiller("MINE")
class Mine(Distiller):
    """Cross entropy, weighted."""

    uses_teacher = False
    teacher_needs: set[str] = set()

    def losses(self, student, teacher, batch):
        return {{"ce": {weight} * self.cross_entropy(student.logits, batch)}}
'''
NETWORK_AND_DATA = """
import torch
from kdbench.data.source import DataSource, MemorySplit, register_dataset
from kdbench.models.registry import register_model
from kdbench.models.networks.small import SmallCNN


@register_model("my_cnn", family="cnn", input_size=8)
def my_cnn(num_classes):
    return SmallCNN(num_classes=num_classes, widths=(4, 8, 8))


@register_dataset("my_data")
def my_data(root=""):
    images = torch.arange(64 * 192, dtype=torch.int64).remainder({modulus}).to(torch.uint8).reshape(64, 3, 8, 8)
    labels = torch.arange(64) % 4
    split = MemorySplit(images, labels)
    return DataSource("my_data", split, split, ["a", "b", "c", "d"], ((0.5,) * 3, (0.3,) * 3), gate=False)
"""


@pytest.fixture(autouse=True)
def _forget():
    """What a test registers is gone after it."""
    yield
    for registry, names in ((distillers, ["mine", "typed"]), (models, ["my_cnn"]), (datasets, ["my_data"])):
        for name in names:
            registry.remove(name)
    for name in [name for name in sys.modules if name.startswith(("kdbench_plugin_", "my_constants", "my_package"))]:
        del sys.modules[name]


def write(file: Path, weight: float, head: str = "") -> str:
    file.write_text(METHOD.format(weight=weight, head=head))
    import_plugins([str(file)])
    return str(file)


def mine(tmp_path: Path, **extra):
    return kdbench.load_config(
        overrides={**SMALL, "LOG.PREFIX": str(tmp_path / "runs"), "DISTILLER.TYPE": "MINE", **extra}
    )


def test_an_edited_method_is_run_again_and_said_so(tmp_path, capsys, caplog):
    words = ["train", "--import", str(tmp_path / "mine.py"), "--distiller", "MINE"]
    options = [f"{key}={value}" for key, value in SMALL.items() if key != "DATASET.OPTIONS"]
    options += ["DATASET.OPTIONS.size=8", "DATASET.OPTIONS.train=64", "DATASET.OPTIONS.test=32"]
    words += [*options, f"LOG.PREFIX={tmp_path / 'runs'}"]
    (tmp_path / "mine.py").write_text(METHOD.format(weight=1.0, head=""))
    for _ in range(2):
        assert main(words) == 0
    assert caplog.text.count("is done already") == 1
    (tmp_path / "mine.py").write_text(METHOD.format(weight=3.0, head=""))
    assert main(words) == 0
    assert "mine.py changed since MINE-small_cnn-s1-" in caplog.text
    first, second = sorted((tmp_path / "runs").iterdir(), key=lambda run: run.stat().st_ctime)
    terms = [json.loads((run / "metrics.jsonl").read_text())["train"]["ce"] for run in (first, second)]
    assert terms[1] > 2 * terms[0]
    capsys.readouterr()
    (tmp_path / "mine.py").write_text(METHOD.format(weight=1.0, head=""))
    assert main(words) == 0  # the code of the first run is back
    assert str(first) in capsys.readouterr().out


def test_a_file_beside_the_method_that_it_uses_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_losses_beside.py").write_text("SCALE = 1.0\n")
    write(tmp_path / "mine.py", 1.0, "import my_losses_beside")
    assert set(code_of(mine(tmp_path)).brought) == {"mine.py", "my_losses_beside"}


@pytest.mark.parametrize(
    "use",
    [
        "from my_constants import SCALE",
        "import my_constants as c",
        "def late():\n    from my_constants import SCALE\n",
        "def late():\n    import my_package.inner\n",
        "from my_constants import *",
    ],
)
def test_whatever_of_the_users_it_imports_counts_wherever_it_lies(tmp_path, monkeypatch, use):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "my_package").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(elsewhere))
    (elsewhere / "my_constants.py").write_text("SCALE = 1.0\n")
    (elsewhere / "my_package" / "__init__.py").write_text("")
    (elsewhere / "my_package" / "inner.py").write_text("import my_constants\n")
    write(tmp_path / "mine.py", 1.0, use)
    before = code_of(mine(tmp_path)).brought
    assert "my_constants" in before
    assert "torch" not in before
    sys.modules.pop("my_constants", None)
    plugins._LOADED.pop("my_constants", None)
    (elsewhere / "my_constants.py").write_text("SCALE = 50.0\n")
    after = code_of(mine(tmp_path)).brought
    assert {name for name in after if after[name] != before[name]} == {"my_constants"}


def test_own_networks_and_data_count(tmp_path):
    ids = set()
    for modulus in (251, 239):
        (tmp_path / "things.py").write_text(NETWORK_AND_DATA.replace("{modulus}", str(modulus)))
        import_plugins([str(tmp_path / "things.py")])
        for change in ({"DISTILLER.STUDENT": "my_cnn"}, {"DATASET.TYPE": "my_data", "DATASET.OPTIONS": {}}):
            cfg = mine(tmp_path, **{"DISTILLER.TYPE": "NONE", **change})
            assert list(code_of(cfg).brought) == ["things.py"]
            ids.add(Path(kdbench.train(cfg).folder).name)
    assert len(ids) == 4


def test_kdbenchs_own_code_is_recorded_and_no_part_of_the_name(tmp_path):
    cfg = mine(tmp_path, **{"DISTILLER.TYPE": "DKD"})
    code = code_of(cfg)
    assert code.brought == {}
    assert {"kdbench.distillers.dkd", "kdbench.distillers.parts.decoupled"} <= set(code.own)
    assert "kdbench.distillers.base" not in code.own
    result = kdbench.train(mine(tmp_path, **{"DISTILLER.TYPE": "NONE"}))
    assert result.environment["code"] == code_of(mine(tmp_path, **{"DISTILLER.TYPE": "NONE"})).digest


def test_another_version_of_kdbenchs_method_is_said(tmp_path, monkeypatch, caplog):
    cfg = mine(tmp_path, **{"DISTILLER.TYPE": "NONE"})
    first = kdbench.train(cfg)
    changed = Code({}, {"kdbench.distillers.vanilla": "another"})
    monkeypatch.setattr(prepare_module, "code_of", lambda cfg: changed)
    again = kdbench.train(cfg)
    assert again.run_id == first.run_id
    assert "was made with another version of kdbench.distillers.vanilla" in caplog.text


def test_code_without_a_file_counts_too(tmp_path):
    def typed(weight: float) -> str:
        space = {"Distiller": Distiller, "register": kdbench.register_distiller, "__name__": "typed_in"}
        exec(METHOD.split("{head}")[1].format(weight=weight).replace("@register_distiller", "@register"), space)
        return next(iter(code_of(mine(tmp_path)).brought.values()))

    first = typed(1.0)
    distillers.remove("mine")
    other = typed(2.0)
    distillers.remove("mine")
    assert first != other
    assert typed(1.0) == first


def test_a_grid_runs_an_edited_method_again(tmp_path):
    file = tmp_path / "grid.yaml"
    sets = {"DATASET": {"TYPE": "fake", "OPTIONS": SMALL["DATASET.OPTIONS"], "NUM_WORKERS": 0}}
    sets |= {"SOLVER": {"EPOCHS": 1, "BATCH_SIZE": 16}, "AUGMENT": {"CROP": "none", "FLIP": 0}}
    grid = {
        "NAME": "g",
        "SET": sets,
        "PAIRS": [{"TEACHER": "A", "STUDENT": "small_cnn"}],
        "METHODS": ["Vanilla", "MINE"],
        "SEEDS": [1],
    }
    teacher = {"DATASET": sets["DATASET"], "SOLVER": sets["SOLVER"], "DISTILLER": {"STUDENT": "small_mixer"}}
    (tmp_path / "teacher.yaml").write_text(json.dumps(teacher))
    file.write_text(json.dumps({**grid, "TEACHERS": {"A": {"CFG": "teacher.yaml"}}}))

    def tops() -> dict[str, str]:
        report = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1, imports=(plugin,))
        assert report.ok, report.failed
        return {label.split()[0]: result.run_id for label, result in report.results.items()}

    plugin = write(tmp_path / "mine.py", 1.0)
    first, again = tops(), tops()
    assert first == again
    write(tmp_path / "mine.py", 2.0)
    edited = tops()
    assert edited["Vanilla"] == first["Vanilla"]
    assert edited["MINE"] != first["MINE"]


def test_a_method_edited_while_its_grid_is_under_way_is_refused(tmp_path):
    plugin = write(tmp_path / "mine.py", 1.0)
    code = code_of(mine(tmp_path)).brought
    (tmp_path / "mine.py").write_text(METHOD.format(weight=2.0, head=""))
    with pytest.raises(KdbenchError, match=r"mine\.py changed while the grid was under way"):
        run_task(mine(tmp_path), (plugin,), str(tmp_path), "key", code=code)
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.glob(".state/*.json"))


def test_a_half_finished_run_of_an_edited_method_does_not_go_on(tmp_path):
    write(tmp_path / "mine.py", 1.0)
    longer = mine(tmp_path, **{"SOLVER.EPOCHS": 2})

    def stop(epoch: int, step: int, steps: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kdbench.train(longer, progress=stop)
    write(tmp_path / "mine.py", 3.0)
    seen = []
    kdbench.train(longer, progress=lambda epoch, step, steps: seen.append(epoch))
    assert seen[0] == 1
    assert len(os.listdir(tmp_path / "runs")) == 2


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level(logging.INFO, logger="kdbench")
