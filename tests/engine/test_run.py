"""One run: what it writes, what it refuses, what equal seeds share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import kdbench
from kdbench.data.build import build_data
from kdbench.distillers.base import Distiller, distillers, register_distiller
from kdbench.engine.parts import build_network, make_loader
from kdbench.engine.runtime import Runtime
from kdbench.engine.session.locate import locate
from kdbench.engine.training.trainer import Trainer
from kdbench.errors import ConfigError, IncompatibleError, NonFiniteLossError, TeacherGateError

FAST = {"SOLVER.EPOCHS": 2, "SOLVER.WARMUP_EPOCHS": 0, "SOLVER.EVAL_EVERY": 1, "DATASET.REPEAT": 2}


def digits(folder, teacher="", **extra):
    settings = {**FAST, "LOG.PREFIX": str(folder), **extra}
    if teacher:
        settings |= {"DISTILLER.TEACHER": "small_mixer", "TEACHER.WEIGHTS": teacher}
    return kdbench.load_config("configs/digits/student.yaml", settings)


def test_files_of_a_run(tmp_path, digits_teacher):
    result = kdbench.train(digits(tmp_path, digits_teacher, **{"DISTILLER.TYPE": "HCD"}))
    folder = Path(result.folder)
    assert {file.name for file in folder.iterdir()} == {
        *(
            "config.yaml",
            "metrics.jsonl",
            "timing.jsonl",
            "checkpoint.pt",
            "student.safetensors",
            "result.json",
            "inputs.json",
            ".lock",
        )
    }
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert set(lines[0]["train"]) == {"ce", "kd", "sub_ce", "sub_kd", "orth"}
    assert not any("second" in key or "time" in key for key in lines[0])
    assert result.top1_last == lines[-1]["top1"]
    assert result.teacher_top1 > 80
    assert result.extra_params > 0
    with safe_open(folder / "student.safetensors", "pt") as file:
        keys = set(file.keys())
    student = kdbench.create_model("small_cnn", num_classes=10)
    assert keys == set(student.backbone.state_dict())
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    teacher = kdbench.create_model("small_mixer", num_classes=10)
    assert not set(state["student"]) & set(teacher.backbone.state_dict())
    score = kdbench.evaluate(digits(tmp_path), str(folder / "student.safetensors"))
    assert score.top1 == result.top1_last
    assert score.images == 500


def test_methods_of_one_seed_share_student_pixels_and_order(tmp_path, digits_teacher):
    seen = []
    for method in ("KD", "HCD"):
        cfg = digits(tmp_path, digits_teacher, **{"DISTILLER.TYPE": method})
        data = build_data(cfg)
        student = build_network(cfg, "STUDENT", data, seed=cfg.EXPERIMENT.SEED)
        batches = list(make_loader(cfg, data, Runtime(torch.device("cpu"))).epoch(2))
        seen.append((student.backbone.state_dict(), batches))
    for key, value in seen[0][0].items():
        assert torch.equal(value, seen[1][0][key]), key
    for one, two in zip(seen[0][1], seen[1][1]):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.draw, two.draw)


def test_identity_leaves_out_paths_and_logging(tmp_path, digits_teacher):
    base = digits(tmp_path, digits_teacher, **{"DISTILLER.TYPE": "KD"})
    data = build_data(base)
    name = locate(base, data)[0].path.name
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(Path(digits_teacher).read_bytes())
    same = digits(
        tmp_path / "b",
        str(moved),
        **{"DISTILLER.TYPE": "KD", "DATASET.NUM_WORKERS": 0, "LOG.TENSORBOARD": True, "RUNTIME.THREADS": 1},
    )
    assert locate(same, data)[0].path.name == name
    other = digits(tmp_path, digits_teacher, **{"DISTILLER.TYPE": "KD", "KD.TEMPERATURE": 3})
    assert locate(other, data)[0].path.name != name


def test_weak_teacher_is_refused_and_nothing_is_written(tmp_path):
    weak = kdbench.train(digits(tmp_path / "t", **{"DISTILLER.STUDENT": "small_mixer", "SOLVER.LR": 0.0}))
    cfg = digits(tmp_path / "s", weak.folder + "/student.safetensors", **{"DISTILLER.TYPE": "KD"})
    with pytest.raises(TeacherGateError, match=r"below the floor of 32\.50%"):
        kdbench.train(cfg)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("settings", "error", "part"),
    [
        (
            {"DISTILLER.TYPE": "DIST", "SOLVER.BATCH_SIZE": 1},
            IncompatibleError,
            "needs at least 2; SOLVER.BATCH_SIZE gives 1",
        ),
        ({"DISTILLER.TYPE": "OFD"}, IncompatibleError, "methods that work for it: AFD, AT, "),
        ({"DISTILLER.TYPE": "LDRLD", "LDRLD.K": 10}, ConfigError, "expects 2 to 9"),
        ({"DISTILLER.TYPE": "HCD", "HCD.N": 0}, ConfigError, "HCD.N: 0 lies outside [1, inf)"),
        ({"DISTILLER.TYPE": "HCD", "HCD.MASK_INDEX": "tagret"}, ConfigError, "none of target, argmax, both"),
        ({"DISTILLER.TYPE": "OFA", "OFA.EPS": [1, 2]}, ConfigError, "expects 1 or 4 values"),
        ({"DISTILLER.TYPE": "OFA", "OFA.STAGES": [4]}, ConfigError, "stages 1 to 3"),
    ],
)
def test_refusals_before_anything_is_written(tmp_path, digits_teacher, settings, error, part):
    with pytest.raises(error) as caught:
        kdbench.train(digits(tmp_path / "s", digits_teacher, **settings))
    assert part in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_non_finite_term_is_named(tmp_path):
    @register_distiller("BROKEN")
    class Broken(Distiller):
        """Breaks."""

        uses_teacher = False
        teacher_needs: set[str] = set()

        def losses(self, student, teacher, batch):
            ce = self.cross_entropy(student.logits, batch)
            return {"ce": ce, "odd": ce * (float("nan") if batch.epoch == 2 else 1.0)}

    try:
        with pytest.raises(
            NonFiniteLossError, match=r"odd of BROKEN is not finite in epoch 2, step 1; lower SOLVER\.LR"
        ):
            kdbench.train(digits(tmp_path, **{"DISTILLER.TYPE": "BROKEN"}))
    finally:
        distillers.remove("broken")
    assert not list(tmp_path.rglob("result.json"))


def test_composition_trains_and_names_its_terms(tmp_path, digits_teacher):
    cfg = digits(tmp_path, digits_teacher, **{"DISTILLER.TYPE": "KD+RSD", "DISTILLER.PART_CE_WEIGHTS": [1, 0]})
    result = kdbench.train(cfg)
    line = json.loads((Path(result.folder) / "metrics.jsonl").read_text().splitlines()[0])
    assert set(line["train"]) == {"kd/ce", "kd/kd", "rsd/ce", "rsd/rsd"}
    assert line["train"]["rsd/ce"] == 0


def test_clipping_smoothing_channels_last_and_tensorboard(tmp_path):
    extra = {
        "SOLVER.CLIP_GRAD": 0.1,
        "SOLVER.LABEL_SMOOTHING": 0.1,
        "SOLVER.CHANNELS_LAST": True,
        "LOG.TENSORBOARD": True,
    }
    result = kdbench.train(digits(tmp_path, **extra, **{"LOG.TENSORBOARD_FREQ": 1}))
    assert list(Path(result.folder).glob("tensorboard/events*"))


def test_device_that_is_not_there():
    with pytest.raises(ConfigError, match="no device 'cud'"):
        kdbench.train(kdbench.load_config("configs/digits/student.yaml", {"RUNTIME.DEVICE": "cud"}))


def test_averaged_weights_are_what_is_evaluated_and_exported(tmp_path):
    """The average, recomputed from the student after every step of an undisturbed run."""
    plain, averaged = digits(tmp_path / "plain"), digits(tmp_path / "averaged", **{"SOLVER.EMA": 0.9})
    expected: dict[str, torch.Tensor] = {}
    original, steps = Trainer.train_step, []

    def watched(self, *step):
        if not expected:
            expected.update({key: value.clone() for key, value in self.student.backbone.state_dict().items()})
        original(self, *step)
        decay = min(0.9, 1 - (1 + len(steps)) ** (-2 / 3))  # timm's warm-up
        steps.append(decay)
        for key, value in self.student.backbone.state_dict().items():
            smooth = value.is_floating_point()
            expected[key] = decay * expected[key] + (1 - decay) * value if smooth else value.clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", watched)
        without = kdbench.train(plain)
    with_average = kdbench.train(averaged)
    exported = load_file(Path(with_average.folder) / "student.safetensors")
    torch.testing.assert_close(exported, expected)
    assert steps[0] == 0
    assert with_average.run_id != without.run_id
    student = load_file(Path(without.folder) / "student.safetensors")
    assert not all(torch.equal(student[key], value) for key, value in exported.items())
    again = kdbench.evaluate(averaged, str(Path(with_average.folder) / "student.safetensors"))
    assert again.top1 == with_average.top1_last
