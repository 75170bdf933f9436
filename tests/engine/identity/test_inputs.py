"""``inputs.json`` of a run: damaged, it is set aside, and the run is what it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mutations import mutations
from tiny_run import content, settings

import kdbench
from kdbench.engine.identity.inputs import read_inputs
from kdbench.engine.run_folder import RunFolder

EPOCHS = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return Path(kdbench.train(settings(tmp_path_factory.mktemp("runs"), EPOCHS, **{"EXPERIMENT.NAME": "g"})).folder)


def test_every_accident_is_found_and_set_aside_once(trained, tmp_path, caplog):
    folder = RunFolder(tmp_path / trained.name)
    folder.path.mkdir()
    whole = read_inputs(RunFolder(trained))
    assert whole is not None
    refused = 0
    for what, changed in mutations(trained.joinpath("inputs.json").read_bytes()):
        caplog.clear()
        folder.inputs.write_bytes(changed)
        found = read_inputs(folder)
        aside = folder.inputs.with_name("inputs.json.damaged")
        assert aside.exists() == (found is None) == (len(caplog.messages) == 1), what
        refused += found is None
        if found is not None and not what.startswith("no seal"):
            assert whole.items() <= found.items(), what
        aside.unlink(missing_ok=True)
    assert refused > 150


def test_of_another_run_a_damaged_file_is_left_alone(tmp_path):
    folder = RunFolder(tmp_path)
    folder.inputs.write_text("{")
    assert read_inputs(folder, foreign=True) is None
    assert folder.inputs.read_text() == "{"


@pytest.mark.parametrize("damage", ["", "null", "[]", "cut"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_goes_on(trained, tmp_path, damage, finished, caplog):
    folder = tmp_path / "runs" / "g" / trained.name
    shutil.copytree(trained, folder)
    inputs = folder / "inputs.json"
    inputs.write_text(inputs.read_text()[:40] if damage == "cut" else damage)
    if not finished:
        (folder / "result.json").unlink()
    result = kdbench.train(settings(tmp_path / "runs", EPOCHS, **{"EXPERIMENT.NAME": "g"}))
    assert content(result.folder) == content(trained)
    assert caplog.text.count("inputs.json is damaged") == 1
    assert (folder / "inputs.json.damaged").is_file()
    assert inputs.is_file() != finished
    if not finished:
        assert "seal" in json.loads(inputs.read_text())
