"""Several runs on a GPU, as far as their measured memory goes; GPUs and measures are made up, and no worker is started."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from inline_pool import InlinePool
from small_grids import FAKE, grid_file, two_teachers

from kdbench.bench.machine.cards import RESERVED, Card
from kdbench.bench.running import run_grid as grids
from kdbench.bench.running.pools.local_pool import LocalPool, _carry_out
from kdbench.bench.running.pools.pool import Outcome, guarded
from kdbench.bench.running.run_grid import run_grid

GB = 10**9


class Tasks:
    """In the place of a worker's executor: tasks end when the test says so."""

    def __init__(self, slot):
        self.slot, self._processes = slot, {1000 + slot: SimpleNamespace(is_alive=lambda: True)}

    def submit(self, *_):
        return Future()

    def shutdown(self, **_):
        pass


class Pool(LocalPool):
    def _new_pool(self, slot):
        return Tasks(slot)

    def begin(self, key, **where):
        if not self.has_room_for(where.get("kind", ""), alone=where.get("alone", False)):
            return None
        self.start(key, int, **where)
        return self._seen[next(slot for slot, k, _ in self._busy.values() if k == key)]

    def end(self, key, outcome=None):
        future = next(f for f, (_, k, _) in self._busy.items() if k == key)
        future.set_result(outcome or Outcome(1))
        ((found, outcome),) = self.finished()
        assert found == key
        return outcome


def measure(size):
    return {"gpu_total": 80 * GB, "gpu_free": 70 * GB, "gpu_bytes": size * GB}


def test_runs_are_spread_over_the_cards_and_then_packed():
    with Pool(8, 1, ["0", "1"], memory=[80 * GB] * 2, measures={"KD": 20 * GB}) as pool:
        places = [pool.begin(n, kind="KD") for n in range(8)]
        assert sorted(places[:2]) == ["0", "1"]
        assert (places.count("0"), places.count("1"), places.count(None)) == (3, 3, 2)
        assert pool.has_room  # for smaller ones
        pool.end(0)
        assert pool.begin(8, kind="KD") == places[0]


def test_the_first_of_a_kind_is_alone_until_it_reports():
    with Pool(4, 1, ["0"], memory=[0]) as pool:
        assert pool.begin("a", kind="KD") == "0"
        assert not pool.has_room
        assert pool.begin("b", kind="KD") is None
        pool.end("a", Outcome(1, card=measure(20)))
        assert [pool.begin(key, kind="KD") for key in "bcde"] == ["0", "0", "0", None]


def test_what_a_run_notes_on_its_way_lets_others_in():
    told = {}
    with Pool(4, 1, ["0"], memory=[80 * GB], look=lambda key: [{}, told[key]]) as pool:
        told["a"] = {"epoch": 1, "pid": 1003}
        pool.begin("a", kind="KD")
        pool._look()
        assert not pool.has_room  # it has not told yet
        told["a"] = {**measure(20), "pid": 7}
        pool._look()
        assert not pool.has_room  # another process is at this run
        told["a"] = {**measure(20), "pid": next(iter(pool._pools[next(iter(pool._started))]._processes))}
        assert list(pool.finished(timeout=0.01)) == []
        assert pool.begin("b", kind="KD") == "0"


def test_a_wait_is_short_only_while_something_is_unknown():
    with Pool(4, 1, ["0"], memory=[80 * GB], measures={"KD": GB}, look=lambda key: [{}]) as pool:
        pool.begin("a", kind="KD")
        assert (pool._patience(None), pool._patience(9.0)) == (None, 9.0)
        pool.end("a")
        pool.begin("b", kind="CRD")
        assert pool._patience(None) == pool._patience(9.0) == 3.0
        assert pool._patience(1.0) == 1.0


def test_whoever_ran_out_of_memory_in_company_is_told_apart():
    with Pool(4, 1, ["0"], memory=[80 * GB], measures={"KD": GB}) as pool:
        for key in "ab":
            pool.begin(key, kind="KD")
        out = pool.end("a", Outcome(error="x", no_memory=True, card=measure(70)))
        assert (out.no_memory, out.crowded) == (True, True)
        assert pool.begin("c", kind="KD") == "0"  # what was cut short is no measure
        assert pool.begin("d", kind="KD", alone=True) is None
        pool.end("b"), pool.end("c")
        assert pool.begin("d", kind="KD", alone=True) == "0"
        assert not pool.has_room
        assert not pool.end("d", Outcome(error="x", no_memory=True)).crowded


def test_the_users_jobs_win_over_memory_and_cpus_have_no_gate():
    with Pool(3, 1, ["0"]) as pool:
        assert [pool.begin(n, kind="KD") for n in range(4)] == ["0", "0", "0", None]
    with Pool(2, 1, []) as pool:
        assert [pool.begin(n, kind="KD", alone=True) for n in range(3)] == ["", "", None]
        with pytest.raises(RuntimeError, match="no worker has room"):
            pool.start(9, int)


def test_an_idle_worker_that_is_there_is_taken_before_another_is_started():
    with Pool(3, 1, ["0"], memory=[80 * GB], measures={"KD": GB}) as pool:
        for key in range(5):
            pool.begin(key, kind="KD")
            pool.end(key)
        assert len(pool._started) == pool._rooms["0"].processes == 1


def test_a_worker_reports_with_its_outcome(monkeypatch):
    monkeypatch.setattr("kdbench.bench.running.pools.local_pool.memory_report", lambda: measure(3))
    assert _carry_out(int, ("7",)) == Outcome(7, card=measure(3))
    assert _carry_out(int, ("x",)).card == measure(3)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("Tried to allocate"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_what_counts_as_no_memory(error, expected):
    def fails():
        raise error

    assert guarded(fails, ()).no_memory is expected


def out_of_memory():
    return Outcome(error="OutOfMemoryError: no room", no_memory=True, crowded=True)


def test_a_run_for_which_there_was_no_memory_is_run_again_alone(tmp_path, caplog):
    pending = {1}
    pool = InlinePool(before=lambda group: out_of_memory() if group[0] in pending and not pending.clear() else None)
    report = run_grid(grid_file(tmp_path), prefix=str(tmp_path / "runs"), pool=pool, cohort=1)
    assert report.ok, report.failed
    assert list(zip(pool.begun, [alone for _, alone in pool.kinds])) == [
        ([0], False),
        ([1], False),
        ([1], True),
        ([2], False),
    ]
    assert "no memory beside others of its GPU; it is run alone" in caplog.text


def test_a_member_for_which_there_was_no_memory_is_run_alone_and_a_second_time_it_has_failed(tmp_path):
    def before(group):
        if len(group) == 3:
            return Outcome(
                [Outcome(error="OutOfMemoryError: x", no_memory=True), Outcome(error="A"), Outcome(error="B")]
            )
        return Outcome(error="OutOfMemoryError: still", no_memory=True) if group == [1] else None

    pool = InlinePool(before=before)
    report = run_grid(grid_file(tmp_path, METHODS=["KD", "DKD", "CRD"]), prefix=str(tmp_path / "runs"), pool=pool)
    assert pool.begun == [[0], [1, 2, 3], [1]]
    assert [alone for _, alone in pool.kinds] == [False, False, True]
    assert sorted(report.failed.values()) == ["A", "B", "OutOfMemoryError: still"]


def test_a_grid_on_gpus_packs_by_what_earlier_runs_took_and_prefers_cohorts(tmp_path, monkeypatch):
    """Two GPUs, 16 cores: the pool that the grid makes, and what it hands to it."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr("kdbench.bench.machine.workers.cores", lambda: 16)
    monkeypatch.setattr(grids, "query_cards", lambda gpus: [Card("X", 80 * GB) for _ in gpus])
    monkeypatch.setattr(grids, "device_of", lambda tasks: "cpu")  # that of the runs made here
    prefix = str(tmp_path / "runs")
    first = run_grid(two_teachers(tmp_path, SEEDS=[1]), prefix=prefix, pool=InlinePool(), cohort=1)
    for result in first.results.values():
        file = Path(result.folder) / "timing.jsonl"
        file.write_text(json.dumps({**json.loads(file.read_text()), "peak_gpu_bytes": GB}) + "\n")
    made = []

    def pool_of(*args, **settings):
        made.append((args, settings, InlinePool(room=args[0])))
        return made[-1][-1]

    monkeypatch.setattr(grids, "LocalPool", pool_of)
    report = run_grid(two_teachers(tmp_path, SEEDS=[1, 2, 3], METHODS=["KD", "DKD"], SET=FAKE), prefix=prefix)
    assert report.ok, report.failed
    (((jobs, threads, gpus), settings, pool),) = made
    assert (jobs, threads, gpus, settings["memory"]) == (8, 2, ["4", "6"], [80 * GB] * 2)
    known = [kind for kind in settings["measures"] if "'KD'" in kind]
    assert {settings["measures"][kind] for kind in known} == {int(RESERVED * GB)}
    # one group a teacher and seed: both methods, but of seed 1 KD is done
    assert sorted(len(group) for group in pool.begun) == [1, 1, 2, 2, 2, 2]
    kinds = {kind for (kind, _), group in zip(pool.kinds, pool.begun) if len(group) == 1}
    assert all("DKD" in kind for kind in kinds)
    assert settings["look"](pool.begun[0]) == [{}] * len(pool.begun[0])


def test_runs_on_the_cpu_of_a_machine_with_gpus_are_not_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("kdbench.bench.machine.workers.cores", lambda: 16)
    made = []

    def pool_of(*args, **settings):
        made.append((args, settings))
        return InlinePool(room=args[0])

    monkeypatch.setattr(grids, "LocalPool", pool_of)
    device = {"RUNTIME.DEVICE": "cpu"}
    file = grid_file(tmp_path, SET={**FAKE, **device}, TEACHERS={"A": {"CFG": "teacher.yaml", "SET": device}})
    lines = []
    assert run_grid(file, prefix=str(tmp_path / "runs"), foretell=lines.append).ok
    assert made == [((2, 8), {"gpus_each": 1})]
    assert len(lines) == 1
