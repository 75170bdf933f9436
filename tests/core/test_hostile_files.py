"""Files of configurations and grids that are none, or that would take for ever: one line, exit code 2, and soon."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest
import yaml
from hostile_yaml import BOMB, FILES, VALUES

from kdbench.bench.results.recipe import recipe_of_run
from kdbench.cli.main import main
from kdbench.config.load import load_config
from kdbench.config.yaml_text import DEEPEST, LARGEST_FILE, MOST_VALUES
from kdbench.errors import ConfigError


def refused(words, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    # without the folders of this test's files, whose length is no doing of the message
    folders = {os.path.dirname(word) for word in words if os.path.isabs(word)}
    assert len(functools.reduce(lambda text, folder: text.replace(folder, ""), folders, error)) < 2000
    return error


def write(tmp_path, content):
    file = tmp_path / "c.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_configuration(tmp_path, capsys, kind):
    file = write(tmp_path, FILES[kind][0])
    for words in (["train", "--cfg", file], ["grid", file, "--dry-run"], ["grid", file, "--status"]):
        assert FILES[kind][1] in refused(words, capsys)


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_that_no_key_has(tmp_path, capsys, kind):
    assert VALUES[kind][1] in refused(["train", "--cfg", write(tmp_path, VALUES[kind][0])], capsys)


def test_bombs_take_no_time(tmp_path):
    """In a process that is ended where it takes longer; expanded, each is a billion values and more."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom kdbench.cli.main import main\n"
        "Path('c.yaml').write_text(sys.argv[1])\nassert main(['cache', 'ls', '--cfg', 'c.yaml']) == 2\n"
        "word = sys.argv[2]\nassert main(['cache', 'ls', 'STUDENT.OPTIONS.a=' + word]) == 2\n"
        "from kdbench.bench.results.recipe import recipe_of_run\n"
        "Path('config.yaml').write_text(sys.argv[1])\nassert recipe_of_run('.') is None\n"
    )
    inner = "".join(f"    {line}\n" for line in BOMB.splitlines())
    parts = [part.partition(": ")[2] for part in BOMB.splitlines()]
    word = f"[{', '.join(parts)}]"
    command = [sys.executable, "-c", code, f"STUDENT:\n  OPTIONS:\n{inner}", word]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stands for more than 100,000 values") == 2


def test_what_is_just_within_the_limits(tmp_path):
    nested = "[" * (DEEPEST - 4) + "1" + "]" * (DEEPEST - 4)
    file = write(tmp_path, f"STUDENT: {{OPTIONS: {{a: {nested}}}}}\n")
    value = load_config(file).STUDENT.OPTIONS.a
    for _ in range(DEEPEST - 4):
        [value] = value
    assert value == 1
    shared = f"x: &x [{', '.join(['1'] * 99)}]\n"
    repeated = f"y: [{', '.join(['*x'] * (MOST_VALUES // 100 - 10))}]\n"
    options = "".join(f"    {line}\n" for line in (shared + repeated).splitlines())
    assert (
        len(load_config(write(tmp_path, f"STUDENT:\n  OPTIONS:\n{options}")).STUDENT.OPTIONS.y)
        == MOST_VALUES // 100 - 10
    )
    full = "SOLVER: {LR: 0.3}\n"
    assert load_config(write(tmp_path, full + "#" * (LARGEST_FILE - len(full)))).SOLVER.LR == 0.3


def test_a_byte_order_mark_is_none_of_the_text(tmp_path):
    assert load_config(write(tmp_path, b"\xef\xbb\xbfSOLVER: {LR: 0.3}\n")).SOLVER.LR == 0.3


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("SOLVER.EPOCHS=" + "9" * 5000, "SOLVER.EPOCHS: expects a whole number, got '999"),
        ("SOLVER.LR_DECAY_STAGES=" + "[" * 500 + "1" + "]" * 500, "more than 50 lists and mappings within each other"),
        ("SOLVER.LR_DECAY_STAGES=" + "[" * 50_000, "more than 50 lists and mappings within each other"),
        ("SOLVER.LR=" + "-" * 50_000 + "1", "SOLVER.LR: expects a number, got '-----"),
        ("SOLVER.EPOCHS={[1]: 2}", "a key is a text, got [1]"),
        ("SOLVER.EPOCHS=1e400", "SOLVER.EPOCHS: expects a whole number, got inf"),
        ("SOLVER.EPOCHS=1_0\\d", "SOLVER.EPOCHS: expects a whole number, got"),
        ("STUDENT.OPTIONS.a=1+2j", "STUDENT.OPTIONS.a: (1+2j) is no number"),
        ("STUDENT.OPTIONS.a=b'x'", "STUDENT.OPTIONS.a: b'x' is no number"),
        ("STUDENT.OPTIONS.a={1, 2}", "STUDENT.OPTIONS.a: {1, 2} is no number"),
        ("STUDENT.OPTIONS.widths=[8, -10000000]", "override: STUDENT.OPTIONS.widths: -10000000 lies outside"),
        ("STUDENT.OPTIONS={1: 2}", "STUDENT.OPTIONS: expects names of options, got 1"),
        ("STUDENT.OPTIONS.a-b=2", "STUDENT.OPTIONS: expects names of options, got 'a-b'"),
        ("STUDENT.OPTIONS=5", "STUDENT.OPTIONS: expects a mapping of keys, got 5"),
        ("STUDENT.OPTIONS.widths={}", "STUDENT.OPTIONS.widths: an empty mapping sets nothing"),
        ("DATASET.OPTIONS={1: 2}", "DATASET.OPTIONS: expects names of options, got 1"),
    ],
)
def test_a_word_that_no_key_has(word, part):
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[word])
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("widths=[-1]", "widths expects whole numbers from 1, got (-1,)"),
        ("widths=[0,0,0]", "widths expects whole numbers from 1, got (0, 0, 0)"),
        ("widths=[8,2.5]", "widths expects whole numbers from 1, got (8, 2.5)"),
        ("widths=[]", "widths expects whole numbers from 1, got ()"),
        ("widths='abc'", "widths expects whole numbers from 1, got 'abc'"),
        ("widths=5", "cannot be built with {'widths': 5}"),
        ("num_classes=5", "STUDENT.OPTIONS.num_classes is no option of a network: it follows from the data set"),
        ("drop_rate=2", "dropout probability has to be between 0 and 1, but got 2"),
        ("nonsense=1", "model 'small_cnn' has no option 'nonsense'"),
    ],
)
def test_an_option_that_no_network_has(tmp_path, capsys, option, part):
    words = ["train", "--cfg", "configs/digits/student.yaml", f"LOG.PREFIX={tmp_path}", "--quiet"]
    assert part in refused([*words, f"STUDENT.OPTIONS.{option}"], capsys)


@pytest.mark.parametrize(
    "option", ["dim=0", "depth=-1", "heads=0", "patch_size=0", "patch_size=99", "dim='a'", "dim=7"]
)
def test_options_of_a_network_of_timm(tmp_path, capsys, option):
    words = [
        "train",
        "--cfg",
        "configs/digits/student.yaml",
        "--student",
        "small_vit",
        f"LOG.PREFIX={tmp_path}",
        "--quiet",
    ]
    error = refused([*words, f"STUDENT.OPTIONS.{option}"], capsys)
    assert "small_vit" in error
    assert repr(yaml.safe_load(option.partition("=")[2])) in error


def test_the_configuration_of_a_run_that_is_none(tmp_path):
    for content, _ in [*FILES.values(), *VALUES.values()]:
        (tmp_path / "config.yaml").write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        recipe_of_run(tmp_path)
