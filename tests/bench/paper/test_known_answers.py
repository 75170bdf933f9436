"""Known answers: what is read of a grid file, and which verdict a figure gets."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import pytest
from small_grids import FAKE, grid_file, two_teachers

from kdbench.bench.grids.find import shipped_grid
from kdbench.bench.grids.grid import Published
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.paper.known_answers import NO, OPEN, YES, judge, page
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.main import main
from kdbench.errors import ConfigError


def known(folder, published=50.0, **changes):
    pair = {
        "TEACHER": "A",
        "STUDENT": "small_cnn",
        "METHODS": ["KD"],
        "PUBLISHED": {"KD": published},
        "SOURCE": "a paper",
    }
    return grid_file(folder, PAIRS=[pair], **{"SEEDS": [1, 2, 3], **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A grid's folder above, and the top-1 of its seeds."""
    folder = tmp_path_factory.mktemp("known")
    run_grid(known(folder), prefix=str(folder / "runs"), jobs=1)
    files = (folder / "runs" / "g").glob("KD-*/result.json")
    return folder, [json.loads(file.read_text())["top1_last"] for file in files]


def test_a_figure_is_reproduced_within_two_standard_deviations(done):
    folder, own = done
    mean, sd = statistics.mean(own), statistics.stdev(own)
    assert sd > 0
    grid = load_grid(known(folder))
    for shift, verdict in ((1.99, YES), (-1.99, YES), (2.01, NO), (-2.01, NO)):
        figure = {("A -> small_cnn", "KD"): Published(mean + shift * sd, "a paper")}
        (answer,) = judge(replace(grid, published=figure), folder / "runs" / "g", "last")
        assert (answer.verdict, answer.reason) == (verdict, "")
        assert answer.own.mean == pytest.approx(mean)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SET": {**FAKE, "SOLVER": {**FAKE["SOLVER"], "LR": 0.5}}}, "SOLVER.LR 0.01 (declared 0.5)"),
        (
            {"TEACHERS": {"A": {"CFG": "teacher.yaml", "SET": {"SOLVER.LR": 0.5}}}},
            "its teacher's SOLVER.LR 0.01 (declared 0.5)",
        ),
    ],
)
def test_runs_that_were_made_otherwise_are_not_judged(done, changes, reason):
    folder, own = done
    grid = load_grid(known(folder, statistics.mean(own), **changes))
    (answer,) = judge(grid, folder / "runs" / "g", "last")
    assert (answer.verdict, answer.reason) == (OPEN, reason)


def test_without_runs_and_with_one_seed_there_is_no_verdict(tmp_path):
    grid = load_grid(known(tmp_path, SEEDS=[1]))
    (answer,) = judge(grid, tmp_path / "runs" / "g")
    assert (answer.verdict, answer.reason, answer.own) == (OPEN, "no run has finished", None)
    run_grid(grid, prefix=str(tmp_path / "runs"), jobs=1)
    (answer,) = judge(grid, tmp_path / "runs" / "g")
    assert (answer.verdict, answer.reason, answer.own.n) == (OPEN, "one seed has no spread", 1)
    assert "Of 1 published figures: 1 not judged." in page(grid, [answer])


def test_the_verb_writes_a_page_and_says_no_by_its_exit_code(done, capsys):
    folder, own = done
    sure = statistics.mean(own) + 10 * statistics.stdev(own)
    for figure, code, word in ((statistics.mean(own), 0, "1 reproduced"), (min(sure, 100.0), 1, "1 not reproduced")):
        command = ["reproduce", str(known(folder, figure)), "--prefix", str(folder / "runs"), "--select", "last"]
        assert main([*command, "--jobs", "1"]) == code  # everything is done: nothing is run again
        assert word in (folder / "runs" / "g" / "known-answers.md").read_text()
        assert word in capsys.readouterr().out
        assert main([*command, "--judge", "--out", str(folder / "page.md")]) == code
        assert (folder / "page.md").read_text() == (folder / "runs" / "g" / "known-answers.md").read_text()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["quickstart"], "the grid 'quickstart' has no PUBLISHED figures to judge by"),
        (["--judge", "--smoke"], "--judge and --smoke do different things"),
        (["--judge", "--select", "selected"], "--select 'selected': expects best or last"),
        (["--judge", "--out", "x.html"], "expects a name that ends in .md"),
    ],
)
def test_what_is_refused(words, part, capsys, tmp_path):
    assert main(["reproduce", *words, "--prefix", str(tmp_path)]) == 2
    assert part in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("pair", "part"),
    [
        ({"PUBLISHED": {"KD": 73.3}}, "PUBLISHED and SOURCE, which says where it stands, come together"),
        ({"SOURCE": "x"}, "PUBLISHED and SOURCE, which says where it stands, come together"),
        (
            {"PUBLISHED": {"KDD": 73.3}, "SOURCE": "x"},
            "PUBLISHED.KDD: the pair has no such method (did you mean 'KD'?)",
        ),
        ({"PUBLISHED": {"KD": 733}, "SOURCE": "x"}, "PUBLISHED.KD expects top-1 in percent, got 733"),
        ({"PUBLISHED": {"KD": True}, "SOURCE": "x"}, "PUBLISHED.KD expects top-1 in percent, got True"),
        ({"PUBLISHED": [73.3], "SOURCE": "x"}, "PUBLISHED expects a mapping"),
        ({"SOURCE": ["x"]}, "SOURCE expects a name"),
        ({"CFG": ["x"]}, "CFG expects a name"),
        ({"CFG": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_mistakes_in_a_grid_file_are_named(tmp_path, pair, part):
    with pytest.raises(ConfigError) as caught:
        load_grid(grid_file(tmp_path, PAIRS=[{"TEACHER": "A", "STUDENT": "small_cnn", **pair}]))
    assert part in str(caught.value)


def test_a_pair_may_have_a_recipe_of_its_own(tmp_path):
    (tmp_path / "other.yaml").write_text("SOLVER: {LR: 0.5, MOMENTUM: 0.8}\n")
    pairs = [
        {"TEACHER": "A", "STUDENT": "small_cnn"},
        {"TEACHER": "A", "STUDENT": "small_cnn", "LABEL": "other", "CFG": "other.yaml", "METHODS": ["KD"]},
    ]
    grid = load_grid(grid_file(tmp_path, PAIRS=pairs))
    found = {(cell.pair, cell.method): cell.cfg.SOLVER for cell in grid.cells}
    assert found["other", "KD"].MOMENTUM == 0.8
    assert found["other", "KD"].LR == 0.01  # SET of the grid stands over both
    assert found["A -> small_cnn", "KD"].MOMENTUM == 0.9


def test_the_shipped_answers_are_those_of_their_sources():
    grid = load_grid(shipped_grid("known-answers"), weights=False)
    answers = {pair: published.top1 for pair, published in grid.published.items()}
    assert answers == {
        ("resnet32x4 -> resnet8x4", "KD"): 73.33,
        ("resnet32x4 -> resnet8x4", "DKD"): 76.32,
        ("resnet56 -> resnet20", "DKD"): 71.97,
        ("vgg13 -> vgg8", "KD"): 72.98,
        ("resnet32x4 -> ShuffleV1", "DKD"): 76.45,
        ("Swin-T -> ResNet18", "OFA"): 80.54,
        ("ViT-S -> ResNet18", "OFA"): 80.15,
        ("Mixer-B/16 -> ResNet18", "OFA"): 79.39,
    }
    cells = {(cell.pair, cell.method): cell.cfg for cell in grid.cells}
    assert set(cells) == set(answers)
    assert cells["resnet56 -> resnet20", "DKD"].DKD.BETA == 2.0
    assert cells["resnet32x4 -> ShuffleV1", "DKD"].SOLVER.LR == 0.01
    assert cells["Swin-T -> ResNet18", "OFA"].SOLVER.EPOCHS == 300


def test_a_cell_of_several_teachers_is_not_judged(tmp_path):
    pair = {
        "TEACHER": ["A", "B"],
        "STUDENT": "small_cnn",
        "METHODS": ["AVER"],
        "PUBLISHED": {"AVER": 50},
        "SOURCE": "x",
    }
    grid = load_grid(two_teachers(tmp_path, PAIRS=[pair]))
    run_grid(grid, prefix=str(tmp_path / "runs"), jobs=1)
    (answer,) = judge(grid, tmp_path / "runs" / "g", "last")
    assert answer.verdict == OPEN
    assert answer.reason == "it learned from several teachers, whose runs are not compared with what is declared"
