"""What could go of a folder: shown, deleted only where asked, and never what a living process holds or kdbench did not write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from inline_pool import InlinePool
from small_grids import grid_file

from kdbench.bench.grids.lock import STATE_DIR, held
from kdbench.bench.grids.owner import myself
from kdbench.bench.running.litter import find_litter
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.main import main
from kdbench.data.teacher_cache.cache import TeacherCache, ViewShape, cache_folders
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.session.holding import Holding
from kdbench.errors import KdbenchError

DEAD = 2**22 + 1  # above every number that a process has


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished grid with a teacher cache."""
    root = tmp_path_factory.mktemp("finished")
    overrides = ["CACHE.ENABLED=True", "TEACHER.FLOOR=0", "CACHE.DTYPE=fp32"]
    report = run_grid(grid_file(root), prefix=str(root / "runs"), pool=InlinePool(), overrides=overrides)
    assert report.ok, report.failed
    return root / "runs"


@pytest.fixture
def runs(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def content(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def old(file, text: str = "half") -> Path:
    file.write_text(text)
    os.utime(file, (1, 1))
    return file


def litter_of(runs) -> list[Path]:
    """Put some of every kind into the folder."""
    grid = runs / "g"
    run = next(grid.glob("KD-*"))
    (cache,) = cache_folders(runs / ".teacher-cache")
    key = next((grid / STATE_DIR).glob("*.json")).stem
    made = [
        run / f".checkpoint.pt.{DEAD}",
        run / f".student.safetensors.{DEAD}.library",
        run / ".holder.json",
        run / "result.json.damaged",
        run / "checkpoint.previous.pt",
    ]
    for file in made:
        file.write_text("left")  # however young: nobody else is at the run
    made += [old(file) for file in (grid / f".grid.json.{DEAD}", grid / "grid.json.damaged")]
    made += [
        old(grid / STATE_DIR / name)
        for name in (f".{key}.json.{DEAD}", f"{key}.json.damaged", f".{key}.lock.{'a' * 32}")
    ]
    made += [grid / STATE_DIR / f"{'b' * 16}.lock"]
    made[-1].write_text(json.dumps({**myself(), "pid": DEAD}))
    made += [old(cache / ".view00001.run.tmp"), old(cache / "meta.json.damaged")]
    made += [old(next(runs.rglob("accuracy/*.json")).with_suffix(".json.damaged"))]
    return made


def unused_cache(runs, **changes) -> Path:
    """A cache whose key differs in these parts from that of the only one; without any, in the seed of the augmentation."""
    (used,) = cache_folders(runs / ".teacher-cache")
    key = json.loads((used / "meta.json").read_text())["key"]
    other = TeacherCache(used.parent, "0" * 16, 10**9)
    layout = asdict(ViewShape(8, 4, 2, "fp32"))
    other.write_meta({"key": {**key, **(changes or {"aug_seed": key["aug_seed"] + 1})}, "layout": layout})
    (other.folder / "view00001.bin").write_bytes(bytes(1000))
    return other.folder


def test_a_clean_folder_has_no_litter(runs, capsys):
    before = content(runs)
    assert find_litter(runs, delete=True).litter == []
    assert {name: data for name, data in content(runs).items() if not name.endswith(".lock")} == {
        name: data for name, data in before.items() if not name.endswith(".lock")
    }
    assert main(["clean", str(runs)]) == 0
    assert capsys.readouterr().out == f"nothing to clean in {runs}\n"


def test_all_kinds_are_shown_and_deleted_only_where_asked(runs, capsys):
    whole = content(runs)
    made = [*litter_of(runs), unused_cache(runs)]
    before = content(runs)
    sizes = {
        file: sum(f.stat().st_size for f in file.iterdir()) if file.is_dir() else file.stat().st_size for file in made
    }
    found = find_litter(runs)
    assert {one.path: one.size for one in found.litter} == sizes
    assert found.held == []
    assert main(["clean", str(runs)]) == 0
    out = capsys.readouterr().out
    assert all(str(file) in out for file in made)
    assert out.endswith("nothing was deleted: --yes does it\n")
    assert content(runs) == before
    assert main(["clean", str(runs), "--yes"]) == 0
    assert capsys.readouterr().out.endswith("deleted\n")
    assert not any(file.exists() for file in made)
    assert content(runs) == whole


def test_what_a_living_process_has_is_left_alone(runs, capsys):
    grid = runs / "g"
    run = next(grid.glob("KD-*"))
    key = next((grid / STATE_DIR).glob("*.json")).stem
    mine = [run / f".checkpoint.pt.{os.getpid()}", run / "checkpoint.previous.pt"]
    for file in mine:
        file.write_text("at work")
    mine += [old(grid / STATE_DIR / f".{key}.json.{os.getpid()}")]  # its process lives
    mine += [grid / STATE_DIR / f".{key}.log.{DEAD}"]  # of another machine, perhaps: it was just written
    mine[-1].write_text("x")
    holding = Holding(RunFolder(run))  # sweeps what it finds
    mine[0].write_text("at work")
    try:
        with held(grid, "c" * 16):
            child = [sys.executable, "-m", "kdbench", "clean", str(runs), "--yes"]
            done = subprocess.run(child, capture_output=True, text=True, check=False)
            assert (grid / STATE_DIR / f"{'c' * 16}.lock").is_file()
    finally:
        holding.release()
    assert done.returncode == 0, done.stderr
    assert f"left alone: {run}" in done.stdout
    assert all(file.is_file() for file in mine)


def test_what_kdbench_did_not_write_is_left_alone(runs):
    grid = runs / "g"
    run = next(grid.glob("KD-*"))
    project = runs / "project"
    project.mkdir()
    (project / "config.yaml").write_text("a: 1")
    names = (".env", "notes.damaged", ".x.1", "my.lock.txt")
    own = [place / name for place in (run, project, grid, grid / STATE_DIR) for name in names]
    own += [project / f".result.json.{DEAD}", project / "checkpoint.previous.pt", project / ".holder.json"]
    for file in own:
        old(file)
    outside = old(runs.parent / "outside.json")
    (run / "result.json.damaged").symlink_to(outside)
    assert find_litter(runs, delete=True).litter == []
    assert all(file.is_file() for file in own)
    assert outside.is_file()


def test_a_run_that_is_not_finished_keeps_its_checkpoints(runs):
    run = next((runs / "g").glob("KD-*"))
    (run / "checkpoint.previous.pt").write_text("x")
    (run / "result.json").unlink()
    assert find_litter(runs, delete=True).litter == []


def test_a_cache_stays_while_it_is_not_known_that_nobody_uses_it(runs):
    unused = unused_cache(runs)
    config = next((runs / "g").glob("KD-*")) / "config.yaml"
    text = config.read_text()
    (used,) = (folder for folder in cache_folders(unused.parent) if folder != unused)
    for changed in ("{", "[]"):
        config.write_text(changed)
        assert find_litter(runs).litter == []
    config.write_text(text.replace("AUG_SEED: -1", "AUG_SEED: 2"))
    assert [one.path for one in find_litter(runs).litter] == [used]
    config.write_text(text)
    assert [one.path for one in find_litter(runs).litter] == [unused]
    (unused / "meta.json").write_text("{")
    assert find_litter(runs).litter == []
    assert (unused / "meta.json").read_text() == "{"


def test_a_cache_for_copies_of_images_is_for_runs_that_have_as_many(runs):
    unused = unused_cache(runs, aug_repeats=3)
    assert [one.path for one in find_litter(runs).litter] == [unused]
    config = next((runs / "g").glob("KD-*")) / "config.yaml"
    config.write_text(config.read_text().replace("AUG_REPEATS: 0", "AUG_REPEATS: 3"))
    assert unused not in [one.path for one in find_litter(runs).litter]


def test_a_cache_that_a_run_from_elsewhere_fills_is_left_alone(runs):
    """Of ``CACHE.DIR`` several folders of runs may make use."""
    unused = unused_cache(runs)
    view = unused / ".view00002.run.tmp"
    view.write_text("half")
    assert find_litter(runs, delete=True).litter == []
    assert view.is_file()
    old(view)
    assert [one.path for one in find_litter(runs, delete=True).litter] == [view, unused]
    assert not unused.exists()


def test_no_folder(tmp_path, capsys):
    with pytest.raises(KdbenchError, match="no folder"):
        find_litter(tmp_path / "nowhere")
    assert main(["clean", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
