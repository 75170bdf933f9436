"""``SOLVER.ACCUMULATE``: one step over parts of a batch, equal to that over the whole."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

import pytest
import torch
from fake_cuda import CUDA, fake, fake_cuda
from forked_ranks import forked
from interrupted_runs import compare
from safetensors.torch import load_file
from tiny_run import content, settings
from torch import nn

import kdbench
from kdbench.bench.methods.conformance import create_pair, make_batch
from kdbench.data.build import build_data
from kdbench.distillers.base import Batch
from kdbench.distillers.cut import cut
from kdbench.engine.session.locate import locate
from kdbench.engine.training.finite import Skip
from kdbench.engine.training.ledger import Ledger
from kdbench.engine.training.optimiser.optim import build_optimizer
from kdbench.engine.training.step import Step, TrainStep
from kdbench.errors import ConfigError, IncompatibleError, NonFiniteLossError, RunStoppedError
from kdbench.models.spec import ModelOutput

#: a student without batch normalisation and a teacher
MIXER = {"DISTILLER.STUDENT": "small_mixer"}
TAUGHT = {
    **MIXER,
    "DISTILLER.TYPE": "KD",
    "DISTILLER.TEACHER": "small_cnn",
    "TEACHER.NORM": "dataset",
    "TEACHER.FLOOR": 0.0,
}


def lines(result) -> list[dict]:
    return [json.loads(line) for line in (Path(result.folder) / "metrics.jsonl").read_text().splitlines()]


def weights(result) -> dict[str, torch.Tensor]:
    return load_file(Path(result.folder) / "student.safetensors")


def assert_close(one, other) -> None:
    for key, value in weights(one).items():
        torch.testing.assert_close(value, weights(other)[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["KD", "FITNET", "OFA", "CTKD", "LDRLD"])
@pytest.mark.parametrize(("size", "parts"), [(16, 4), (10, 3), (5, 8)])
@pytest.mark.parametrize(
    "extra", [{}, {"SOLVER.CLIP_GRAD": 0.1, "SOLVER.NESTEROV": True}, {"SOLVER.NON_FINITE": "skip"}]
)
def test_steps_in_double_precision_are_those_of_the_whole_batch(method, size, parts, extra):
    ends, terms = [], []
    for count in (1, parts):
        student, teacher, distiller = create_pair(method, ("small_cnn", {}), ("small_mixer", {}))
        cfg = kdbench.load_config(
            overrides={"DISTILLER.TYPE": method, "SOLVER.ACCUMULATE": count, "SOLVER.LR": 0.01, **extra}
        )
        module = TrainStep(student, distiller).double()
        device = torch.device("cpu")
        ledger = Ledger(device, skipping=cfg.SOLVER.NON_FINITE == "skip")
        step = Step(cfg, module, build_optimizer(cfg, module, device), ledger, device, 1)
        assert (step.skip is not None) is isinstance(step.skip, Skip) is ledger.skipping
        ledger.start()
        for number in range(4):
            whole = make_batch(student, size, first=size * number % 20)
            batch = Batch(whole.images.double(), whole.target, whole.index, whole.draw, epoch=1, progress=0.5, seed=1)
            with torch.no_grad():
                given = teacher.double()(batch.images, need=distiller.teacher_needs)
            step.gradients(given, batch, number, 1.0)
            step.update()
        ends.append(module.state_dict())
        terms.append(ledger.sums())
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-9, atol=1e-12)
    for key, value in terms[0].items():
        torch.testing.assert_close(terms[1][key], value, rtol=1e-9, atol=0)


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_scaled_gradients_are_those_of_the_whole_batch(clip):
    """As with ``SOLVER.PRECISION: fp16`` on a GPU."""
    ends = []
    for count in (1, 4):
        student, teacher, distiller = create_pair("KD", ("small_cnn", {}), ("small_mixer", {}))
        overrides = {"DISTILLER.TYPE": "KD", "SOLVER.ACCUMULATE": count, "SOLVER.LR": 0.01, "SOLVER.CLIP_GRAD": clip}
        cfg, device = kdbench.load_config(overrides=overrides), torch.device("cpu")
        module = TrainStep(student, distiller)
        step = Step(cfg, module, build_optimizer(cfg, module, device), Ledger(device), device, 1)
        step.scaler = torch.amp.GradScaler("cpu")
        for number in range(3):
            batch = make_batch(student, 10, first=10 * number)
            with torch.no_grad():
                given = teacher(batch.images)
            step.gradients(given, batch, number, 1.0)
            step.update()
        ends.append(module.state_dict())
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-4, atol=1e-6)


def test_parts_are_even_and_whole():
    batch = make_batch(create_pair("KD", ("small_cnn", {}), ("small_cnn", {}))[0], 10)
    rows = torch.arange(10.0)[:, None]
    given = ModelOutput(rows, rows, stages=(rows, rows), bn_affine=(torch.ones(2, 3),))
    for parts in (1, 3, 10, 40):
        found = list(cut(batch, given, parts))
        sizes = [len(part.images) for part, *_ in found]
        assert len(found) == min(parts, 10)
        assert max(sizes) - min(sizes) <= 1
        assert sum(share for *_, share in found) == pytest.approx(1.0)
        for name in ("images", "target", "index", "draw"):
            assert torch.equal(torch.cat([getattr(part, name) for part, *_ in found]), getattr(batch, name))
        assert torch.equal(torch.cat([outputs.logits for _, outputs, _ in found]), rows)
        assert torch.equal(torch.cat([outputs.stages[1] for _, outputs, _ in found]), rows)
        assert all(outputs.bn_affine is given.bn_affine for _, outputs, _ in found)
        assert all((part.epoch, part.seed, part.progress) == (1, 1, 0.5) for part, *_ in found)


def test_on_a_gpu_nothing_is_read_and_no_devices_are_mixed():
    with fake_cuda():
        batch = Batch(
            fake(6, 3, 8, 8), fake(6, dtype=torch.int64), fake(6, dtype=torch.int64), fake(6, dtype=torch.int64), seed=1
        )
        batch.host_draw = torch.arange(6)
        ledger = Ledger(CUDA)
        sums: dict[str, torch.Tensor] = {}
        for part, given, share in cut(batch, ModelOutput(fake(6, 4), fake(6, 4)), 4):
            assert part.images.device == given.logits.device == CUDA
            assert part.host_draw.device.type == "cpu"
            value = (given.logits.mean() + part.images.mean()).double() * share
            sums["ce"] = sums["ce"] + value if sums else value
        ledger.enter(0, sums, sums["ce"], 6)


@pytest.mark.parametrize(
    "extra", [{}, {"SOLVER.EMA": 0.5, "AUGMENT.MIXUP": 0.2}, {"CACHE.ENABLED": True, "CACHE.DTYPE": "fp32"}]
)
def test_a_run_is_that_of_the_whole_batch_up_to_rounding(tmp_path, extra):
    whole = kdbench.train(settings(tmp_path / "whole", 2, **TAUGHT, **extra))
    parts = kdbench.train(settings(tmp_path / "parts", 2, **TAUGHT, **extra, **{"SOLVER.ACCUMULATE": 5}))
    assert parts.run_id != whole.run_id
    assert_close(whole, parts)
    for one, other in zip(lines(whole), lines(parts)):
        assert one["lr"] == other["lr"]
        assert one["train"] == pytest.approx(other["train"], rel=1e-4)


def test_the_teacher_is_asked_once_for_a_batch(tmp_path):
    class Asked(nn.Module):
        sizes: list[int] = []

        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(192, 4)

        def forward(self, images):
            self.sizes.append(len(images))
            return self.fc(images.flatten(1))

    kdbench.train(settings(tmp_path / "a", 1, **TAUGHT), teacher=Asked())
    before = list(Asked.sizes)
    Asked.sizes.clear()
    kdbench.train(settings(tmp_path / "b", 1, **TAUGHT, **{"SOLVER.ACCUMULATE": 4}), teacher=Asked())
    assert Asked.sizes == before
    assert before.count(16) >= 3


def test_it_resumes_to_the_bit(tmp_path):
    extra = {**TAUGHT, "SOLVER.ACCUMULATE": 3, "STUDENT.OPTIONS": {"drop_rate": 0.3}} | {
        "DISTILLER.STUDENT": "small_cnn"
    }
    whole = kdbench.train(settings(tmp_path / "whole", 2, **extra))

    def stop(epoch, step, steps):
        if (epoch, step) == (2, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStoppedError):
        kdbench.train(settings(tmp_path / "parts", 2, **extra), progress=stop)
    assert content(kdbench.train(settings(tmp_path / "parts", 2, **extra)).folder) == content(whole.folder)


def test_members_of_a_cohort_may_cut_in_other_ways(tmp_path):
    def cfgs(folder):
        return [settings(folder, 2, **TAUGHT, **{"SOLVER.ACCUMULATE": parts}) for parts in (1, 2, 4)]

    together = kdbench.train_cohort(cfgs(tmp_path / "together"))
    for one, cfg in zip(together, cfgs(tmp_path / "alone")):
        assert content(one.folder) == content(kdbench.train(cfg).folder)


def test_several_processes_add_up_their_gradients_once(tmp_path, monkeypatch):
    def work(rank: int) -> int:
        import torch.nn.parallel.distributed as parallel

        # of 22 + 22 samples the last batch is uneven: 6 of each, cut into 4
        extra = {**TAUGHT, "DATASET.OPTIONS": {"size": 8, "train": 44, "test": 16, "num_classes": 4}}
        whole = kdbench.train(settings(tmp_path / "whole", 2, **extra))
        reduced = []
        original = parallel.DistributedDataParallel.forward

        def forward(self, *inputs, **named):
            reduced.append(self.require_backward_grad_sync)
            return original(self, *inputs, **named)

        monkeypatch.setattr(parallel.DistributedDataParallel, "forward", forward)
        parts = kdbench.train(settings(tmp_path / "parts", 2, **extra, **{"SOLVER.ACCUMULATE": 4}))
        assert sum(reduced) == 6  # steps
        assert len(reduced) == 24
        assert_close(whole, parts)
        return 0

    ended = forked(tmp_path, work)
    assert ended.codes == [0, 0], ended.texts


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("RKD", "its loss compares the samples"),
        ("HCD", "normalises over the batch"),
        ("KD+RKD", "compares the samples"),
    ],
)
def test_losses_that_are_no_means_over_samples_are_refused(tmp_path, method, said):
    extra = {**TAUGHT, "DISTILLER.TYPE": method, "SOLVER.ACCUMULATE": 2}
    with pytest.raises(
        IncompatibleError, match=rf"SOLVER\.ACCUMULATE: .* cannot be trained on parts of a batch: .*{said}"
    ):
        kdbench.train(settings(tmp_path, 1, **extra))
    assert not list(tmp_path.iterdir())


def test_more_parts_than_samples_are_refused():
    with pytest.raises(ConfigError, match=r"SOLVER\.ACCUMULATE: 17 parts of a batch of SOLVER\.BATCH_SIZE=16"):
        settings("runs", 1, **{"SOLVER.ACCUMULATE": 17})


def test_a_part_of_one_sample_is_too_small_for_batch_normalisation(tmp_path):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc = nn.BatchNorm1d(3), nn.Linear(3, 4)

        def forward(self, images):
            return self.fc(self.norm(images.mean((2, 3))))

    with pytest.raises(
        IncompatibleError, match=r"SOLVER\.BATCH_SIZE with SOLVER\.ACCUMULATE gives batches of one sample"
    ):
        kdbench.train(settings(tmp_path, 1, **{"SOLVER.ACCUMULATE": 16}), student=Pooled())


@pytest.mark.parametrize(("student", "said"), [("small_cnn", True), ("small_mixer", False)])
def test_what_batch_normalisation_sees_is_said(tmp_path, caplog, student, said):
    caplog.set_level(logging.INFO, "kdbench")
    kdbench.train(settings(tmp_path, 1, **{"DISTILLER.STUDENT": student, "SOLVER.ACCUMULATE": 4}))
    assert ("batch normalisation in small_cnn sees the 4 parts of a batch one by one" in caplog.text) is said


@pytest.mark.parametrize("rule", ["stop", "skip"])
def test_one_part_that_is_not_finite_spoils_the_step(rule):
    student, _, distiller = create_pair("Vanilla", ("small_cnn", {}), ("small_cnn", {}))
    overrides = {"SOLVER.ACCUMULATE": 4, "SOLVER.NON_FINITE": rule, "SOLVER.MOMENTUM": 0.0, "SOLVER.WEIGHT_DECAY": 0.0}
    cfg, device = kdbench.load_config(overrides=overrides), torch.device("cpu")
    module, ledger = TrainStep(student, distiller), Ledger(device, skipping=rule == "skip")
    step = Step(cfg, module, build_optimizer(cfg, module, device), ledger, device, 1)
    ledger.start()
    batch = make_batch(student, 8)
    batch.images[5] = float("nan")  # in the third part
    before = {key: value.clone() for key, value in module.state_dict().items()}

    def look() -> None:
        found = ledger.found()
        if found is not None:
            raise NonFiniteLossError(str(found))

    if rule == "stop":
        with pytest.raises(NonFiniteLossError, match=r"0, .'ce'"):
            step.gradients(None, batch, 0, 1.0, look)
        assert all(torch.equal(value, before[key]) for key, value in module.named_parameters())
    else:
        step.gradients(None, batch, 0, 1.0)
        step.update()
        assert (int(ledger.skipped), float(ledger.left_out)) == (1, 8.0)
        compare(dict(module.state_dict()), before, "module")


def test_names_of_runs_know_it_only_where_it_is_used(tmp_path):
    def name(**extra):
        cfg = settings(tmp_path, 1, **extra)
        return locate(cfg, build_data(cfg)).folder.path.name

    assert name() == name(**{"SOLVER.ACCUMULATE": 1})
    assert len({name(), *(name(**{"SOLVER.ACCUMULATE": parts}) for parts in (2, 3))}) == 3


def test_nothing_changes_where_it_is_off(tmp_path):
    plain = kdbench.train(settings(tmp_path / "a", 2, **TAUGHT))
    spelled = kdbench.train(settings(tmp_path / "b", 2, **TAUGHT, **{"SOLVER.ACCUMULATE": 1}))
    assert content(plain.folder) == content(spelled.folder)
    compare(weights(plain), weights(spelled), "weights")
