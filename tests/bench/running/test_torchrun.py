"""A grid's run over several processes, and the resolved configurations that they and a user start from."""

from __future__ import annotations

import json

import pytest
from small_grids import grid_file

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.grids.lock import STATE_DIR, LockLostError
from kdbench.bench.grids.tasks import make_tasks
from kdbench.bench.running.pools.cluster_pools import make_pool
from kdbench.bench.running.torchrun import LaunchError, train_in_processes
from kdbench.cli.main import main
from kdbench.config.load import load_config
from kdbench.errors import ConfigError


@pytest.mark.slow
def test_every_run_of_a_grid_over_two_processes(tmp_path, capsys):
    file = grid_file(tmp_path, METHODS=["KD"])
    words = ["grid", str(file), "--prefix", str(tmp_path / "runs"), "--jobs", "1", "--processes", "2"]
    assert main(words) == 0, capsys.readouterr().out
    results = [json.loads(f.read_text()) for f in (tmp_path / "runs").rglob("result.json")]
    assert [r["environment"]["world_size"] for r in results] == [2, 2]
    assert main(words) == 0
    assert capsys.readouterr().out.count("done before") == 2


class Held:
    """A lock that is held for a while."""

    def __init__(self, looks=10**9):
        self.looks = looks

    def check(self):
        self.looks -= 1
        if self.looks < 0:
            raise LockLostError("gone")


def cell_config(tmp_path):
    grid = load_grid(grid_file(tmp_path, METHODS=["Vanilla"]))
    (tmp_path / STATE_DIR).mkdir()
    return make_tasks(grid, str(tmp_path / "runs"))[-1].cfg


def test_the_processes_own_error_is_the_runs(tmp_path):
    cfg = cell_config(tmp_path)
    cfg.defrost()
    cfg.RUNTIME.DEVICE = "nonsense"
    with pytest.raises(LaunchError, match=r"RUNTIME\.DEVICE: this machine has no device 'nonsense'"):
        train_in_processes(cfg, 2, tmp_path, "k", Held())
    assert load_config(tmp_path / STATE_DIR / "k.yaml").RUNTIME.DEVICE == "nonsense"


def test_processes_end_when_the_run_is_taken_over(tmp_path):
    with pytest.raises(LockLostError):
        train_in_processes(cell_config(tmp_path), 2, tmp_path, "k", Held(looks=1))
    assert not list((tmp_path / "runs").rglob("result.json"))


def test_gpus_that_no_process_would_use_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--gpus 4: a run of 1 process uses no more; give --processes 4 too"):
        make_pool("local", folder=tmp_path, gpus=4)
    assert make_pool("local", folder=tmp_path, gpus=4, processes=4) is None
    assert main(["grid", "quickstart", "--processes", "0"]) == 2


def test_resolved_configurations_are_written_and_load(tmp_path, capsys):
    file = grid_file(tmp_path)
    out = tmp_path / "configs"
    assert main(["grid", str(file), "--dry-run", "--no-probe", "--write-configs", str(out)]) == 0
    assert "3 configurations written" in capsys.readouterr().out
    texts = {f.name: f.read_text() for f in out.iterdir()}
    assert sorted(name.partition("_")[0] for name in texts) == ["KD", "Vanilla", "teacher"]
    [kd] = [name for name in texts if name.startswith("KD")]
    assert "the run of teacher A will make" in texts[kd].splitlines()[0]
    cfg = load_config(out / kd)
    assert (cfg.DISTILLER.TYPE, cfg.DISTILLER.TEACHER, cfg.SOLVER.BATCH_SIZE) == ("KD", "small_mixer", 16)
    assert main(["grid", str(file), "--write-configs", str(out)]) == 2
