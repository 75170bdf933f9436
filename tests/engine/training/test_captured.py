"""Captured steps on a CPU: a stand-in for CUDA graphs runs the recorded work again over inputs at fixed addresses, so that whatever
would be frozen in a graph shows as another result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from each_method import each_method, short

import kdbench
from kdbench.data.loader import LoadedBatch
from kdbench.distillers.base import Batch, Distiller, distillers, register_distiller
from kdbench.distillers.initialised import Initialised
from kdbench.engine.runtime import Runtime
from kdbench.engine.session import cohort as cohort_module
from kdbench.engine.teacher import outputs as outputs_module
from kdbench.engine.training import captured as captured_module
from kdbench.engine.training import phases as phases_module
from kdbench.engine.training.captured import NotedBatch, graph_maker
from kdbench.engine.training.graphs import CudaGraph, Fixed, Rerun, same_shapes
from kdbench.engine.training.ledger import Ledger
from kdbench.errors import IncompatibleError, NonFiniteLossError

BASE = {
    "DATASET.TYPE": "fake",
    "DATASET.OPTIONS": {"size": 16, "train": 104, "test": 32, "num_classes": 10},  # six batches and an odd one
    "DATASET.NUM_WORKERS": 0,
    "DISTILLER.STUDENT": "small_cnn",
    "STUDENT.OPTIONS": {"drop_rate": 0.3},
    "SOLVER.EPOCHS": 2,
    "SOLVER.BATCH_SIZE": 16,
    "SOLVER.LR": 0.001,
    "SOLVER.SCHEDULE": "cosine",
    "SOLVER.SCHEDULE_PER": "step",
    "AUGMENT.CROP": "pad",
    "AUGMENT.PAD": 2,
}
TEACHER = {"DISTILLER.TEACHER": "small_cnn", "TEACHER.OPTIONS": {"widths": [12, 16, 24]}}
#: those that read the epoch's number, on which a recording depends
BY_EPOCH = {"CA_MKD", "CTKD", "DKD", "FCFD", "RLD", "REVIEWKD", "SDD_DKD", "SDD_NKD"}


def settings(folder, method: str, **extra):
    teacher = {} if method == "Vanilla" else TEACHER
    return kdbench.load_config(
        overrides={**BASE, "DISTILLER.TYPE": method, "LOG.PREFIX": str(folder), **teacher, **short(method), **extra}
    )


def content(result) -> list[bytes]:
    return [(Path(result.folder) / name).read_bytes() for name in ("metrics.jsonl", "student.safetensors")]


class Counted(Rerun):
    made = replayed = 0

    def record(self, work):
        type(self).made += 1
        super().record(work)

    def replay(self):
        type(self).replayed += 1
        return super().replay()


@pytest.fixture
def graphs(monkeypatch):
    Counted.made = Counted.replayed = 0
    monkeypatch.setattr(cohort_module, "graph_maker", lambda cfg, runtime: Counted)
    return Counted


@pytest.mark.parametrize("method", each_method())
def test_a_captured_run_ends_in_the_bytes_of_one_that_is_not(tmp_path, method, monkeypatch):
    try:
        expected = content(kdbench.train(settings(tmp_path / "eager", method)))
    except IncompatibleError:
        pytest.skip("undefined for the pair")
    Counted.made = Counted.replayed = 0
    monkeypatch.setattr(cohort_module, "graph_maker", lambda cfg, runtime: Counted)
    assert content(kdbench.train(settings(tmp_path / "captured", method))) == expected
    live = distillers.get(method).uses_teacher and not distillers.get(method).needs_networks
    live = live and not issubclass(
        distillers.get(method), Initialised
    )  # the teacher is asked before the first epoch alone
    capturable = distillers.get(method).capturable
    assert Counted.made == live + capturable * (1 + (method in BY_EPOCH))
    # Of 14 steps three warm up, and two are of the odd batch. The student's step behind that is not from a graph, nor is the
    # first one for which the teacher's outputs lie where they will always lie.
    assert Counted.replayed == 9 * live + (8 - live) * capturable


@pytest.mark.parametrize(
    "extra",
    [
        {"SOLVER.PRECISION": "bf16", "SOLVER.CHANNELS_LAST": True, "AUGMENT.MIXUP": 0.8},
        {"CACHE.ENABLED": True, "SOLVER.EMA": 0.9, "SOLVER.CLIP_GRAD": 1.0},
        {"SOLVER.TYPE": "LAMB", "SOLVER.WARMUP_EPOCHS": 1.0},
        {"SOLVER.TYPE": "ADAMW", "DATASET.REPEAT": 2},
    ],
    ids=["bf16", "cache", "lamb", "adamw"],
)
def test_under_every_setting(tmp_path, monkeypatch, extra):
    methods = ["KD", "CRD", "FitNet", "Vanilla", "DKD"]
    expected = [content(kdbench.train(settings(tmp_path / method, method, **extra))) for method in methods]
    monkeypatch.setattr(cohort_module, "graph_maker", lambda cfg, runtime: Counted)
    outcomes = kdbench.train_cohort([settings(tmp_path / "together", method, **extra) for method in methods])
    assert [content(outcome) for outcome in outcomes] == expected


def test_a_step_that_is_not_finite_is_found_and_named(tmp_path, graphs):
    def losses(self, student, teacher, batch):
        ce = self.cross_entropy(student.logits, batch)
        broken = (batch.draw == 7).any()  # on the device: one step of every epoch
        return {"ce": ce, "bad": ce * torch.where(broken, float("nan"), 0.0)}

    register_distiller("BREAKS")(type("BREAKS", (Distiller,), {"losses": losses}))
    try:
        with pytest.raises(NonFiniteLossError, match=r"loss term bad of BREAKS is not finite in epoch 1, step \d"):
            kdbench.train(settings(tmp_path, "BREAKS"))
    finally:
        distillers.remove("breaks")
    assert not list(tmp_path.rglob("result.json"))


def test_a_method_that_reads_what_no_graph_can_hold_is_run_step_by_step(tmp_path, graphs, caplog):
    def losses(self, student, teacher, batch):
        return {"ce": self.cross_entropy(student.logits, batch) * (1.0 + batch.progress)}

    register_distiller("RAMP")(type("RAMP", (Distiller,), {"losses": losses}))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cohort_module, "graph_maker", lambda cfg, runtime: None)
            expected = content(kdbench.train(settings(tmp_path / "eager", "RAMP")))
        with caplog.at_level("INFO", logger="kdbench"):
            assert content(kdbench.train(settings(tmp_path / "captured", "RAMP"))) == expected
    finally:
        distillers.remove("ramp")
    assert "RAMP reads Batch.progress, which no graph can; its steps run one by one" in caplog.text


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("KD", "the teacher cannot be captured as a CUDA graph: operation not permitted"),
        ("Vanilla", "Vanilla cannot be captured as a CUDA graph, so its steps run one by one"),
    ],
)
def test_what_cannot_be_recorded_is_said_and_run_step_by_step(tmp_path, monkeypatch, caplog, method, said):
    class Refuses(Rerun):
        def record(self, work):
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

    expected = content(kdbench.train(settings(tmp_path / "eager", method)))
    monkeypatch.setattr(cohort_module, "graph_maker", lambda cfg, runtime: Refuses)
    assert content(kdbench.train(settings(tmp_path / "captured", method))) == expected
    assert said in caplog.text
    assert "and more" not in caplog.text


def test_terms_that_are_met_first_while_recording_are_not_summed_in_a_graph(tmp_path, monkeypatch, caplog):
    """Their sums would be made, at zero, in every replay."""
    ledgers = []

    class Other(Ledger):
        def __init__(self, device, **options):
            super().__init__(device, **options)
            ledgers.append(self)

    class Meets(Rerun):
        def record(self, work):
            if ledgers:
                ledgers[-1].enter(0, {"other": torch.tensor(7.0)}, torch.tensor(7.0), 16)

    expected = content(kdbench.train(settings(tmp_path / "eager", "Vanilla")))
    monkeypatch.setattr(phases_module, "Ledger", Other)
    monkeypatch.setattr(cohort_module, "graph_maker", lambda cfg, runtime: Meets)
    assert content(kdbench.train(settings(tmp_path / "captured", "Vanilla"))) == expected
    assert "Vanilla cannot be captured as a CUDA graph" in caplog.text
    assert "its loss terms have other names than in the steps before" in caplog.text


def test_a_cache_is_filled_with_the_rows_of_its_own_steps(tmp_path, graphs):
    """Rows are written some steps after they were made; what the host looks them up by must not be the next step's."""
    kept = []
    original = outputs_module.StoredOutputs.__call__

    def call(self, batch):
        kept.append((batch.host_draw, batch.host_draw.clone()))
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs_module.StoredOutputs, "__call__", call)
        kdbench.train(settings(tmp_path, "KD", **{"CACHE.ENABLED": True}))
    assert len(kept) == 14
    assert all(torch.equal(now, then) for now, then in kept)


def test_which_runs_are_captured():
    cpu, gpu = Runtime(torch.device("cpu")), Runtime(torch.device("cuda", 0))

    def maker(runtime, **extra):
        return graph_maker(kdbench.load_config(overrides={k.replace("_", "."): v for k, v in extra.items()}), runtime)

    assert maker(gpu) is CudaGraph
    assert maker(gpu, SOLVER_PRECISION="bf16") is CudaGraph
    assert maker(cpu) is None
    assert maker(Runtime(gpu.device, 0, 2)) is None
    for key, value in {"SOLVER_GRAPH": "off", "SOLVER_COMPILE": True, "SOLVER_PRECISION": "fp16"}.items():
        assert maker(gpu, **{key: value}) is None


def test_a_noted_batch_says_what_was_read_of_it():
    rows = torch.arange(4)
    batch = NotedBatch.of(Batch(torch.rand(4, 3, 2, 2), rows, rows, rows, epoch=3), torch.tensor(3))
    plain = Batch(batch.images, rows, rows, rows, epoch=3)
    assert torch.equal(batch.generator("x").bits(4), plain.generator("x").bits(4))
    assert batch.__dict__["noted"] == set()
    assert (batch.epoch, batch.progress) == (3, 0.0)
    assert batch.__dict__["noted"] == {"epoch", "progress"}


def test_inputs_keep_their_addresses_and_odd_ones_pass():
    def loaded(rows: int) -> tuple[torch.Tensor, ...]:
        index = torch.arange(rows)
        return LoadedBatch(torch.rand(rows, 3, 4, 4), index, index, index, index).on_device()

    fixed, first, second, odd = Fixed(), loaded(4), loaded(4), loaded(3)
    held = fixed.put(first)
    assert held is not first
    addresses = [tensor.data_ptr() for tensor in held]
    assert fixed.holds(fixed.put(second))
    assert [tensor.data_ptr() for tensor in held] == addresses
    assert torch.equal(held[0], second[0])
    assert fixed.put(odd) is odd
    assert not fixed.holds(odd)
    assert not same_shapes(held, (second[0].contiguous(memory_format=torch.channels_last), *second[1:]))


def test_the_warm_up_is_long_enough_for_what_optimisers_set_up():
    assert captured_module.WARM_UP >= 2
