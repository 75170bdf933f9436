"""What is not finite is never exported, evaluated or saved, and its cause is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import kdbench
from kdbench.data.source import DataSource, MemorySplit, datasets, register_dataset
from kdbench.distillers.base import Distiller, distillers
from kdbench.engine.evaluation import Score
from kdbench.engine.training.finite import check_score, not_finite
from kdbench.engine.training.trainer import Trainer
from kdbench.errors import DataError, ModelError, NonFiniteLossError
from kdbench.models.spec import ModelOutput
from kdbench.models.weights.export import save_student

FAST = {
    "SOLVER.EPOCHS": 2,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.EVAL_EVERY": 1,
    "DATASET.REPEAT": 1,
    "DATASET.NUM_WORKERS": 0,
    "DATASET.PER_CLASS": 5,
}


def digits(folder, teacher="", **extra):
    settings = {**FAST, "LOG.PREFIX": str(folder), **extra}
    if teacher:
        settings |= {"DISTILLER.TEACHER": "small_mixer", "TEACHER.WEIGHTS": str(teacher)}
    return kdbench.load_config("configs/digits/student.yaml", settings)


class Gradient(torch.autograd.Function):
    """The value itself, whose gradient is not a number."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


@pytest.fixture
def odd_method():
    """A method whose loss is finite and whose gradient in the last step is not."""

    @kdbench.register_distiller("ODD")
    class Odd(Distiller):
        """Finite loss, NaN gradient at the end."""

        uses_teacher = False
        teacher_needs: set[str] = set()

        def losses(self, student, teacher, batch):
            ce = self.cross_entropy(student.logits, batch)
            last = batch.epoch == 2 and batch.progress > 0.7
            return {"ce": Gradient.apply(ce) if last else ce}

    yield "ODD"
    distillers.remove("odd")


def exported(folder) -> list[str]:
    return [p.name for p in Path(folder).rglob("*") if p.name in ("student.safetensors", "result.json")]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_gradient_that_is_not_finite_is_noticed_before_anything_is_kept(tmp_path, odd_method, average):
    cfg = digits(tmp_path, **{"DISTILLER.TYPE": odd_method, "SOLVER.EMA": average, "SOLVER.BATCH_SIZE": 25})
    with pytest.raises(NonFiniteLossError, match=r"after epoch 2 .* of the student is not finite, though the loss was"):
        kdbench.train(cfg)
    assert exported(tmp_path) == []
    (metrics,) = tmp_path.rglob("metrics.jsonl")
    assert [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()] == [1]
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    state = torch.load(checkpoint, weights_only=True)
    assert state["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in state["student"].values() if v.is_floating_point())


def test_a_rate_that_is_far_too_high_exports_nothing(tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"lower SOLVER\.LR"):
        kdbench.train(digits(tmp_path, **{"SOLVER.LR": 999.0, "SOLVER.EPOCHS": 30, "SOLVER.MOMENTUM": 0.999}))
    assert exported(tmp_path) == []


def test_a_running_statistic_that_is_not_finite_is_noticed(tmp_path, monkeypatch):
    original = Trainer.train_step

    def broken(self, batch, *others):
        original(self, batch, *others)
        if batch.epoch == 2:
            next(b for name, b in self.student.named_buffers() if name.endswith("running_var")).fill_(float("inf"))

    monkeypatch.setattr(Trainer, "train_step", broken)
    with pytest.raises(NonFiniteLossError, match=r"after epoch 2 .*running_var of the student is not finite"):
        kdbench.train(digits(tmp_path))
    assert exported(tmp_path) == []


def damaged(teacher, folder, value: float) -> Path:
    state = load_file(teacher)
    key = next(key for key, tensor in state.items() if tensor.dim() == 2)
    state[key].view(-1)[0] = value
    with safe_open(teacher, "pt") as file:
        save_file(state, folder / "damaged.safetensors", metadata=file.metadata())
    return folder / "damaged.safetensors"


@pytest.mark.parametrize("method", ["KD", "FitNet", "AT", "CRD"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_teacher_whose_weights_are_not_finite_is_refused(tmp_path, digits_teacher, method, value):
    weights = damaged(digits_teacher, tmp_path, value)
    with pytest.raises(ModelError, match=r"TEACHER\.WEIGHTS .*holds NaN or infinity"):
        kdbench.train(digits(tmp_path / "runs", weights, **{"DISTILLER.TYPE": method, "TEACHER.FLOOR": 0.0}))
    assert not (tmp_path / "runs").exists()


def test_a_teacher_that_overflows_is_named_and_not_the_learning_rate(tmp_path, digits_teacher):
    weights = damaged(digits_teacher, tmp_path, 3e38)
    cfg = digits(tmp_path / "runs", weights, **{"DISTILLER.TYPE": "FitNet", "TEACHER.FLOOR": 0.0})
    with pytest.raises((NonFiniteLossError, kdbench.KdbenchError), match="teacher 'small_mixer'") as caught:
        kdbench.train(cfg)
    assert "SOLVER.LR" not in str(caught.value)
    assert exported(tmp_path / "runs") == []


def test_data_without_spread_are_refused():
    split = MemorySplit(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4) % 2)
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="standard deviation"):
            DataSource("flat", split, split, ["a", "b"], ((0.5,) * 3, (0.2, bad, 0.2)))


def test_images_that_are_not_finite_are_named(tmp_path):
    class Broken(MemorySplit):
        def fetch(self, positions):
            return super().fetch(positions).float() * float("nan")

        def subset(self, positions):
            return Broken(self.images[positions], self.labels[positions])

    @register_dataset("nan_images")
    def nan_images(root=""):
        images = torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8)
        split = Broken(images, torch.arange(32) % 4)
        return DataSource("nan_images", split, split, list("abcd"), ((0.5,) * 3, (0.3,) * 3), gate=False)

    settings = {"DATASET.TYPE": "nan_images", "DATASET.PER_CLASS": 0, "AUGMENT.CROP": "none"}
    try:
        with pytest.raises(NonFiniteLossError, match="the images of that batch hold NaN or infinity"):
            kdbench.train(digits(tmp_path, **settings))
    finally:
        datasets.remove("nan_images")


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    layer = torch.nn.Linear(2, 2)
    layer.weight.data[0, 0] = float("inf")
    with pytest.raises(ModelError, match="weight holds NaN or infinity"):
        save_student(tmp_path / "student.safetensors", layer, {})
    assert list(tmp_path.iterdir()) == []


def test_an_accuracy_of_outputs_that_are_not_finite_is_refused(tmp_path, digits_teacher):
    check_score(Score(90.0, 99.0, 0.3, 10), "outputs")
    for loss in (float("nan"), float("inf")):
        with pytest.raises(NonFiniteLossError, match="accuracy means nothing"):
            check_score(Score(90.0, 99.0, loss, 10), "outputs")
    cfg = digits(tmp_path, **{"DISTILLER.STUDENT": "small_mixer", "STUDENT.NORM": "dataset"})
    with pytest.raises(NonFiniteLossError, match="are not finite"):
        kdbench.evaluate(cfg, str(damaged(digits_teacher, tmp_path, float("nan"))))


@pytest.mark.parametrize("what", ["missing", "cut", "empty"])
def test_a_result_without_its_student_is_not_done(tmp_path, caplog, what):
    first = kdbench.train(digits(tmp_path))
    student = Path(first.folder) / "student.safetensors"
    content = student.read_bytes()
    student.unlink()
    if what != "missing":
        student.write_bytes(content[: len(content) // 2] if what == "cut" else b"")
    trained = []
    again = kdbench.train(digits(tmp_path), progress=lambda *step: trained.append(step))
    assert not trained  # it goes on from the checkpoint of its last epoch
    assert again.top1_last == first.top1_last
    assert student.read_bytes() == content
    assert "student.safetensors" in caplog.text


def test_without_checkpoint_either_the_run_is_made_anew(tmp_path):
    first = kdbench.train(digits(tmp_path))
    content = (Path(first.folder) / "student.safetensors").read_bytes()
    shutil.move(Path(first.folder) / "student.safetensors", tmp_path / "kept")
    (Path(first.folder) / "checkpoint.pt").unlink()
    trained = []
    kdbench.train(digits(tmp_path), progress=lambda *step: trained.append(step))
    assert trained
    assert (Path(first.folder) / "student.safetensors").read_bytes() == content


def test_parts_of_an_output_that_are_not_finite_are_named():
    fine = torch.ones(2, 3)
    output = ModelOutput(fine, fine / 0, stages=(fine, fine * float("nan")))
    assert not_finite(output) == ["penultimate", "stages"]
    assert not_finite(ModelOutput(fine, fine)) == []
