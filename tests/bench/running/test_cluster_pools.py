"""The same grid on Ray and through submitit: same table as on local processes, a lost node included."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from small_grids import twelve_cells

from kdbench.bench.comparison.table import build_table
from kdbench.bench.grids.state import read_states
from kdbench.bench.results.loaded import load_results
from kdbench.bench.running.pools.cluster_pools import RayPool, SlurmPool, make_pool
from kdbench.bench.running.run_grid import run_grid
from kdbench.errors import ConfigError, KdbenchError


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="did you mean 'slurm'"):
        make_pool("slrum", folder=tmp_path)
    with pytest.raises(ConfigError, match="expects KEY=VALUE"):
        make_pool("local", folder=tmp_path, options=["x"])
    assert make_pool("local", folder=tmp_path) is None

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(KdbenchError, match=r"pip install 'kdbench\[ray\]'"):
        make_pool("ray", folder=tmp_path)
    with pytest.raises(KdbenchError, match=r"pip install 'kdbench\[slurm\]'"):
        make_pool("slurm", folder=tmp_path)


@pytest.fixture
def calm(tmp_path):
    file = twelve_cells(tmp_path)
    report = run_grid(file, prefix=str(tmp_path / "calm"), jobs=2, threads=1)
    assert report.ok
    return file, build_table(tmp_path / "calm" / "g").to_markdown()


def runs_on(node, folder):
    """Keys of the runs whose worker is a child of this node's raylet."""
    raylet = node.all_processes["raylet"][0].process.pid
    running = {key: state["pid"] for key, state in read_states(folder).items() if state["status"] == "running"}
    return [key for key, pid in running.items() if parent_of(pid) == raylet]


def parent_of(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


@pytest.mark.slow
def test_ray_with_a_node_killed_on_the_way(calm, tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    file, expected = calm
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    hit: list[str] = []

    def announce(line):
        if not hit:
            hit.extend(runs_on(second, tmp_path / "ray" / "g"))
            if hit:
                cluster.remove_node(second, allow_graceful=False)

    try:
        pool = RayPool(gpus=0, address=cluster.address)
        report = run_grid(file, prefix=str(tmp_path / "ray"), announce=announce, pool=pool)
    finally:
        cluster.shutdown()
    assert hit, "no run was under way on the node that was to be lost"
    assert report.ok, report.failed
    assert len(load_results(tmp_path / "ray")) == 14
    assert {read_states(tmp_path / "ray" / "g")[key]["status"] for key in hit} == {"done"}
    assert build_table(tmp_path / "ray" / "g").to_markdown() == expected


@pytest.mark.slow
def test_submitit_local(calm, tmp_path):
    pytest.importorskip("submitit")
    file, expected = calm
    pool = SlurmPool(tmp_path / "logs", cluster="local", jobs=2, gpus=0, poll=0.2, timeout_min=60)
    started = time.monotonic()
    report = run_grid(file, prefix=str(tmp_path / "submitit"), pool=pool)
    assert report.ok, report.failed
    assert time.monotonic() - started < 900
    assert len(load_results(tmp_path / "submitit")) == 14
    assert build_table(tmp_path / "submitit" / "g").to_markdown() == expected
    assert os.listdir(tmp_path / "logs")
