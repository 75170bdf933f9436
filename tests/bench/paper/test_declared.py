"""A cell run under another recipe than declared is marked, and never averaged with one that keeps it."""

from __future__ import annotations

import pytest
import yaml
from synthetic_runs import write_run

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.paper.render import render, to_frame
from kdbench.bench.paper.table import build_paper_table
from kdbench.bench.results.recipe import differences, recipe
from kdbench.cli.main import main
from kdbench.config.load import load_config, to_dict

PLACE = {"dataset": "cifar100", "teacher": "Swin-T", "student": "ResNet18"}
RUN = {"DATASET.TYPE": "cifar100", "DISTILLER.TEACHER": "Swin-T", "DISTILLER.STUDENT": "ResNet18", "SOLVER.EPOCHS": 300}


@pytest.fixture
def grid(tmp_path):
    tree = {
        "NAME": "t1",
        "TEACHERS": {"T": {"MODEL": "Swin-T", "WEIGHTS": "pretrained"}},
        "METHODS": ["Vanilla", "KD"],
        "SEEDS": [1, 2],
    }
    tree |= {"PAIRS": [{"TEACHER": "T", "STUDENT": "ResNet18"}], "SET": {"SOLVER.EPOCHS": 300, "KD.TEMPERATURE": 1.0}}
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def run(folder, seed, top1, name="", **changes):
    cfg = load_config(
        overrides={**RUN, "DISTILLER.TYPE": "KD", "KD.TEMPERATURE": 1.0, "EXPERIMENT.SEED": seed, **changes}
    )
    write_run(folder, method="KD", seed=seed, top1=top1, cfg=cfg, name=name, **PLACE)


def kd(table):
    return next(c for c in table.cells() if c.key and c.key.method == "KD" and c.key.teacher == "Swin-T")


def test_a_faithful_run_has_no_mark(tmp_path, grid):
    run(tmp_path / "r", 1, 78.0, **{"RUNTIME.DEVICE": "cpu", "DATASET.ROOT": "elsewhere", "TEACHER.WEIGHTS": "x.pt"})
    table = build_paper_table(1, tmp_path / "r", grid=grid)
    assert kd(table).ours.checked
    assert not kd(table).other_recipe


def test_another_recipe_is_marked_and_said(tmp_path, grid):
    run(tmp_path / "r", 1, 70.0, **{"SOLVER.EPOCHS": 2, "KD.TEMPERATURE": 4.0})
    table = build_paper_table(1, tmp_path / "r", grid=grid)
    assert kd(table).other_recipe
    text = render(table)
    assert "another recipe than declared: SOLVER.EPOCHS 2 (declared 300), KD.TEMPERATURE 4.0 (declared 1.0)" in text


def test_recipes_are_not_mixed_in_a_cell(tmp_path, grid):
    run(tmp_path / "r", 1, 78.0)
    run(tmp_path / "r", 1, 70.0, name="short", **{"SOLVER.EPOCHS": 2})
    run(tmp_path / "r", 2, 71.0, **{"SOLVER.EPOCHS": 2})
    assert kd(build_paper_table(1, tmp_path / "r", grid=grid)).ours.values == {1: 78.0}


def test_unreadable_configuration_is_marked(tmp_path, grid):
    run(tmp_path / "r", 1, 78.0)
    next((tmp_path / "r").rglob("config.yaml")).write_text("a: [")
    assert kd(build_paper_table(1, tmp_path / "r", grid=grid)).other_recipe


def test_pairs_with_methods_of_their_own_and_fewer_seeds(tmp_path, grid):
    tree = yaml.safe_load(grid.read_text())
    tree["PAIRS"].append({"TEACHER": "T", "STUDENT": "resnet20", "METHODS": ["DKD"]})
    grid.write_text(yaml.safe_dump(tree))
    loaded = load_grid(grid, seeds=1)
    assert [(c.student, c.method) for c in loaded.cells] == [
        ("ResNet18", "Vanilla"),
        ("ResNet18", "KD"),
        ("resnet20", "DKD"),
    ]
    assert loaded.methods == ["Vanilla", "KD", "DKD"]


def cell(table, method, metric="top1"):
    found = [c for c in table.cells() if c.key and c.key.method == method and c.key.metric == metric]
    return next(c for c in found if (c.key.teacher, c.key.student) == ("Swin-T", "ResNet18"))


def text_of(table, cell):
    return " / ".join(table.notes[mark - 1] for mark in cell.marks)


def test_starting_weights_are_part_of_the_recipe(tmp_path, grid):
    run(tmp_path / "r", 1, 90.0, **{"STUDENT.WEIGHTS": "pretrained"})
    table = build_paper_table(1, tmp_path / "r", grid=grid)
    assert "STUDENT.WEIGHTS pretrained (declared none)" in text_of(table, kd(table))
    file = {"STUDENT.WEIGHTS": str(tmp_path / "x.pt")}
    assert recipe(to_dict(load_config(overrides=file)))["STUDENT.WEIGHTS"] == "a file"


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("timm:swin_tiny_patch4_window7_224", ""),
        ("timm:swin_tiny_patch4_window7_224.ms_in1k", ""),
        ("timm:swin_tiny_patch4_window7_224.ms_in22k_ft_in1k", "timm swin_tiny_patch4_window7_224.ms_in22k_ft_in1k"),
    ],
)
def test_another_tag_of_the_teacher_is_marked(tmp_path, grid, name, tag):
    run(tmp_path / "r", 1, 78.0, **{"DISTILLER.TEACHER": name})
    table = build_paper_table(1, tmp_path / "r", grid=grid)
    assert kd(table).other_recipe == bool(tag)
    assert not tag or f"DISTILLER.TEACHER {tag} (declared timm swin_tiny_patch4_window7_224.ms_in1k)" in render(table)


def test_siglip_1_is_not_siglip_2():
    tree = {"DISTILLER.TEACHER": "SigLIP2 (ViT-B)", "DISTILLER.STUDENT": "vgg8"}
    second = recipe(to_dict(load_config(overrides=tree)))
    first = recipe(
        to_dict(load_config(overrides={**tree, "DISTILLER.TEACHER": "timm:vit_base_patch16_siglip_224.webli"}))
    )
    assert [line.partition(" ")[0] for line in differences(first, second)] == ["DISTILLER.TEACHER"]
    alias = recipe(to_dict(load_config(overrides={**tree, "DISTILLER.TEACHER": "SigLIP2-ViT-B"})))
    assert differences(alias, second) == []


def both(folder, changes, top1=80.0, **extra):
    """A KD and an HCD run, each with its changes."""
    for method, value in zip(("KD", "HCD"), (top1, top1 + 2)):
        cfg = load_config(
            overrides={
                **RUN,
                "DISTILLER.TYPE": method,
                **({"KD.TEMPERATURE": 1.0} if method == "KD" else {}),
                **changes[method],
            }
        )
        write_run(folder, method=method, seed=1, top1=value, cfg=cfg, **PLACE, **extra.get(method, {}))


def gain(table):
    return next(c for c in table.cells() if c.key is None and c.gain_of.teacher == "Swin-T")


@pytest.fixture
def wide(grid):
    tree = yaml.safe_load(grid.read_text())
    tree["METHODS"].append("HCD")
    grid.write_text(yaml.safe_dump(tree))
    return grid


def test_no_gain_across_two_wrong_recipes(tmp_path, wide):
    both(tmp_path / "r", {"KD": {"SOLVER.EPOCHS": 2}, "HCD": {"SOLVER.EPOCHS": 200}})
    table = build_paper_table(1, tmp_path / "r", grid=wide)
    assert gain(table).ours_gain is None
    assert "no own gain: one side was run under another recipe" in text_of(table, gain(table))


def test_a_gain_within_one_wrong_recipe_is_marked(tmp_path, wide):
    both(tmp_path / "r", {m: {"SOLVER.EPOCHS": 2} for m in ("KD", "HCD")})
    table = build_paper_table(1, tmp_path / "r", grid=wide)
    assert gain(table).ours_gain == 2.0
    assert "SOLVER.EPOCHS 2 (declared 300)" in text_of(table, gain(table))
    frame = to_frame(table)
    mine = (frame.metric == "gain_top1") & (frame.teacher == "Swin-T") & (frame.student == "ResNet18")
    assert frame[mine].other_recipe.tolist() == [True]


def test_two_teachers_are_no_gain_and_are_said(tmp_path, wide):
    same = {"KD": {}, "HCD": {}}
    both(tmp_path / "r", same, HCD={"teacher_sha256": "other"})
    table = build_paper_table(1, tmp_path / "r", grid=wide)
    assert gain(table).ours_gain is None
    assert "learned from different teachers" in text_of(table, gain(table))
    run(tmp_path / "r", 2, 79.0)
    next((tmp_path / "r").glob("*-KD-*-s2")).joinpath("result.json").write_text(
        next((tmp_path / "r").glob("*-KD-*-s2")).joinpath("result.json").read_text().replace('"abc"', '"third"')
    )
    table = build_paper_table(1, tmp_path / "r", grid=wide)
    assert "own runs under 2 teachers of different weights" in text_of(table, kd(table))


@pytest.fixture
def own_teacher(tmp_path, wide):
    """A grid that trains its teacher, the teacher's run of another recipe, and a student's run under it."""
    (tmp_path / "teacher.yaml").write_text(
        yaml.safe_dump({"DISTILLER": {"TYPE": "NONE", "STUDENT": "Swin-T"}, "SOLVER": {"EPOCHS": 50}})
    )
    tree = {**yaml.safe_load(wide.read_text()), "TEACHERS": {"T": {"CFG": "teacher.yaml"}}}
    wide.write_text(yaml.safe_dump(tree))
    cfg = load_config(tmp_path / "teacher.yaml", {"SOLVER.EPOCHS": 3})
    made = write_run(
        tmp_path / "r",
        method="Vanilla",
        seed=1,
        top1=88.0,
        cfg=cfg,
        dataset="cifar100",
        student="Swin-T",
        name="teacher1",
    )
    run(tmp_path / "r", 1, 78.0, **{"TEACHER.WEIGHTS": f"elsewhere/{made}/student.safetensors"})
    return wide


def test_the_teachers_own_run_is_compared(tmp_path, own_teacher):
    table = build_paper_table(1, tmp_path / "r", grid=own_teacher)
    for method in ("KD", "Teacher"):
        assert "its teacher's SOLVER.EPOCHS 3 (declared 50)" in text_of(table, cell(table, method))


def test_published_weights_in_the_place_of_a_trained_teacher(tmp_path, own_teacher):
    run(tmp_path / "q", 1, 78.0, **{"TEACHER.WEIGHTS": "pretrained"})
    table = build_paper_table(1, tmp_path / "q", grid=own_teacher)
    assert "TEACHER.WEIGHTS pretrained (declared: trained by the grid)" in text_of(table, kd(table))


def test_cells_that_nobody_declared_say_so(tmp_path, grid):
    run(tmp_path / "r", 1, 78.0)
    write_run(tmp_path / "r", method="DKD", seed=1, top1=79.0, cfg=load_config(overrides=RUN), **PLACE)
    table = build_paper_table(1, tmp_path / "r", grid=grid)
    assert "no recipe is declared for this cell" in text_of(table, cell(table, "DKD"))
    assert kd(table).marks == ()


def test_a_grid_speaks_for_the_tables_that_it_declares(tmp_path, grid, capsys):
    folder = tmp_path / "r"
    write_run(folder, method="KD", seed=1, top1=70.0, **{**PLACE, "dataset": "imagenet"})
    write_run(folder, method="Vanilla", seed=1, top1=75.0, **{**PLACE, "teacher": ""}, cfg=load_config(overrides=RUN))
    assert main(["table", str(folder), "--paper", "all", "--grid", str(grid)]) == 0
    text = capsys.readouterr().out
    second = text[text.index("**Table 2") : text.index("**Table 3")]
    assert "its configuration cannot be read" in second  # compared with table2.yaml
    assert "no recipe is declared" not in second
    sixth = text[text.index("**Table 6") : text.index("**Table 7")]
    assert "no recipe is declared" not in sixth  # its scratch cell is table 1's


def test_a_named_grid_with_an_unknown_network_is_refused(tmp_path, grid, capsys):
    tree = yaml.safe_load(grid.read_text())
    tree["PAIRS"].append({"TEACHER": "T", "STUDENT": "resnet21"})
    grid.write_text(yaml.safe_dump(tree))
    run(tmp_path / "r", 1, 78.0)
    assert main(["table", str(tmp_path / "r"), "--paper", "1", "--grid", str(grid)]) == 2
    assert "PAIRS.STUDENT: unknown model 'resnet21'; did you mean" in capsys.readouterr().err


def test_scratch_of_table_6_is_checked_against_table_1(tmp_path):
    place = {**PLACE, "teacher": ""}
    write_run(tmp_path / "r", method="Vanilla", seed=1, top1=75.0, **place, cfg=load_config(overrides=RUN))
    table = build_paper_table(6, tmp_path / "r")
    assert cell(table, "Scratch").ours.checked
    assert cell(table, "Scratch").other_recipe


def test_a_key_that_an_older_run_did_not_have_is_at_its_default(tmp_path, grid):
    run(tmp_path / "r", 1, 78.0)
    file = next((tmp_path / "r").rglob("config.yaml"))
    tree = yaml.safe_load(file.read_text())
    del tree["SOLVER"]["EMA"], tree["KD"]["LOSS"]["CE_WEIGHT"], tree["STUDENT"]["FREEZE"]
    file.write_text(yaml.safe_dump(tree))
    assert not kd(build_paper_table(1, tmp_path / "r", grid=grid)).other_recipe
