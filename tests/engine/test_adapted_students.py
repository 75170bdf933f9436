"""A student that its method changes: what is evaluated, counted, exported and loaded again is the network that is deployed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import settings

import kdbench
from kdbench.bench.deployment.export import export_run
from kdbench.bench.deployment.student import load_student
from kdbench.cli.main import main
from kdbench.config.load import load_config
from kdbench.data.build import build_data
from kdbench.distillers.simkd import simkd_loss
from kdbench.engine.parts import build_network, build_teacher
from kdbench.errors import ConfigError, IncompatibleError, LossError, ModelError
from kdbench.models.feature_model.flops import forward_flops

TAUGHT = {"DISTILLER.TYPE": "SIMKD", "DISTILLER.TEACHER": "small_cnn", "TEACHER.OPTIONS": {"widths": [12, 24, 40]}}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    cfg = settings(tmp_path_factory.mktemp("runs"), 2, **TAUGHT)
    return cfg, kdbench.train(cfg)


def read(run):
    return load_config(f"{run}/config.yaml", purpose="read")


def test_result_counts_what_is_deployed(done):
    cfg, result = done
    plain = build_network(cfg, "STUDENT", build_data(cfg))
    narrow, wide, classes = plain.spec.penultimate, 40, 4
    old = classes * (narrow + 1)
    middle = wide // 2
    projector = narrow * middle + 9 * middle**2 + middle * wide + 2 * (2 * middle + wide)
    assert result.student_params == plain.spec.params - old + projector + classes * (wide + 1)
    assert result.extra_params == 0
    own = load_student(result.folder, read(result.folder)).model
    assert result.student_params == own.spec.params
    assert result.student_flops == forward_flops(own.backbone, own.input_size)
    assert result.student_flops > forward_flops(plain.backbone, plain.input_size)


def test_the_file_holds_the_teachers_classifier_and_no_other(done):
    cfg, result = done
    state = load_file(Path(result.folder) / "student.safetensors")
    teacher = build_teacher(cfg, build_data(cfg))
    weight, bias = teacher.classifier()
    assert torch.equal(state["classifier.weight"], weight)
    assert torch.equal(state["classifier.bias"], bias)
    assert [key for key, value in state.items() if value.shape == weight.shape] == ["classifier.weight"]


def test_eval_of_the_run_and_of_its_file(done, capsys):
    _, result = done
    assert main(["eval", str(result.folder)]) == 0
    assert f"top-1 {result.top1:.2f}" in capsys.readouterr().out
    model = kdbench.create_model(
        "small_cnn", num_classes=4, data_size=8, weights=str(Path(result.folder) / "student.safetensors")
    )
    assert model.adapter == {"kind": "projector", "width": 40, "grid": [2, 2], "factor": 2, "bias": True}
    assert model.spec.head == "gap"


def test_export(done, tmp_path):
    _, result = done
    found = export_run(result.folder, read(result.folder), "torch.export", tmp_path / "student.pt2", seconds=0.0)
    assert found.parity.top1 == found.parity.recorded_top1 == result.top1
    with pytest.raises(ModelError, match="no network of timm's"):
        export_run(result.folder, read(result.folder), "timm", tmp_path / "student")


def test_it_can_teach_and_start_others_but_is_not_changed_twice(done, tmp_path):
    _, result = done
    weights = str(Path(result.folder) / "student.safetensors")
    taught = {"DISTILLER.TEACHER": "small_cnn", "TEACHER.WEIGHTS": weights}
    assert kdbench.train(settings(tmp_path, 1, **{**taught, "DISTILLER.TYPE": "AT"})).epochs == 1
    assert kdbench.train(settings(tmp_path, 1, **{"STUDENT.WEIGHTS": weights})).student_params == result.student_params
    with pytest.raises(IncompatibleError, match="cannot change it again"):
        kdbench.train(settings(tmp_path, 1, **{**TAUGHT, "STUDENT.WEIGHTS": weights}))


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"STUDENT.FREEZE": "backbone"}, r"STUDENT\.FREEZE: SIMKD changes the student"),
        ({"DISTILLER.TYPE": "SIMKD+KD"}, "SIMKD changes the student's network and cannot be composed"),
        ({"DISTILLER.TEACHER": "small_vit", "TEACHER.OPTIONS": {}}, "does not read the average of its last map"),
    ],
)
def test_refused_in_one_line(tmp_path, extra, reason):
    with pytest.raises(IncompatibleError, match=reason):
        kdbench.train(settings(tmp_path, 1, **{**TAUGHT, **extra}))
    assert not any(tmp_path.iterdir())


def test_averaged_and_chosen_weights_are_of_the_whole_network(tmp_path):
    extra = {"SOLVER.EMA": 0.9, "DATASET.VAL_FRACTION": 0.25, "SOLVER.KEEP": "best"}
    result = kdbench.train(settings(tmp_path, 2, **TAUGHT, **extra))
    own = load_student(result.folder, read(result.folder))
    assert own.about["adapter"]["width"] == 40
    assert main(["eval", str(result.folder), "--json"]) == 0


@pytest.mark.parametrize(
    "record",
    [
        7,
        {"width": 40},
        {"kind": "projector", "width": 40},
        {"kind": "projector", "width": 1 << 40, "grid": [2, 2], "factor": 2, "bias": True},
        {"kind": "projector", "width": 40, "grid": 2, "factor": 2, "bias": True},
        {"kind": "expansion", "width": 40, "scale": float(1 << 30)},
        {"kind": ["expansion"], "width": 40, "scale": 1.0},
    ],
)
def test_a_file_with_another_adapter_is_refused(done, tmp_path, record):
    _, result = done
    from kdbench.models.weights.export import read_metadata, save_student

    own = load_student(result.folder, read(result.folder)).model
    about = {**read_metadata(Path(result.folder) / "student.safetensors"), "adapter": record}
    save_student(tmp_path / "other.safetensors", own.backbone, about)
    with pytest.raises(ModelError, match="adapter is recorded as"):
        kdbench.create_model("small_cnn", num_classes=4, data_size=8, weights=str(tmp_path / "other.safetensors"))


def test_in_a_loop_of_ones_own():
    teacher = kdbench.create_model("small_mixer", num_classes=4, input_size=8, seed=2).eval().requires_grad_(False)
    student = kdbench.create_model("small_vit", num_classes=4, input_size=16, seed=1)
    method = kdbench.create_distiller("SIMKD", student, teacher, ce_weight=1.0)
    batch = kdbench.Batch(torch.rand(4, 3, 16, 16), torch.arange(4))
    with torch.no_grad():
        told = teacher(batch.images, need=method.teacher_needs)
    with pytest.raises(LossError, match=r"train method\.adapt"):
        method(student, told, batch)
    with pytest.raises(ConfigError, match="give it the teacher's network"):
        method.adapt(student)
    changed = method.adapt(student, teacher).train()
    terms = method(changed, told, batch)
    output = changed(batch.images, need={"region_maps"})
    torch.testing.assert_close(terms["simkd"], simkd_loss(output.region_maps, told.region_maps))
    weight, bias = teacher.classifier()
    torch.testing.assert_close(output.logits, output.region_maps.mean((2, 3)) @ weight.T + bias)
    sum(terms.values()).backward()
    frozen = [name for name, p in changed.named_parameters() if p.grad is None]
    assert [name for name in frozen if "classifier" in name] == [
        "backbone.classifier.weight",
        "backbone.classifier.bias",
    ]


def test_a_larger_map_of_the_student_is_pooled_first():
    teacher = kdbench.create_model("small_cnn", num_classes=4, input_size=16, seed=2, widths=[8, 8, 8])
    student = kdbench.create_model("small_cnn", num_classes=4, input_size=32, seed=1)
    method = kdbench.create_distiller("SIMKD", student, teacher)
    raw = student(torch.rand(2, 3, 32, 32), need={"region_maps"}).region_maps
    changed = method.adapt(student, teacher)
    assert raw.shape[2:] > teacher.spec.stages[-1].grid
    assert changed.spec.stages == method.student_spec.stages
    projected = changed(torch.rand(2, 3, 32, 32), need={"region_maps"}).region_maps
    assert projected.shape == (2, 8, *teacher.spec.stages[-1].grid)


def test_the_projector_depends_on_the_seed_alone():
    def state(seed: int):
        teacher = kdbench.create_model("small_cnn", num_classes=4, input_size=8, seed=2)
        student = kdbench.create_model("small_cnn", num_classes=4, input_size=8, seed=1)
        torch.rand(3)
        return kdbench.create_distiller("SIMKD", student, teacher, seed=seed).adapt(student, teacher).state_dict()

    one, again, other = state(0), state(0), state(1)
    key = "backbone.adapter.transfer.3.weight"
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one[key], other[key])
    assert torch.equal(one["backbone.classifier.weight"], other["backbone.classifier.weight"])


def test_the_table_of_results_has_the_deployed_numbers(done):
    _, result = done
    row = kdbench.load_results(str(Path(result.folder).parent)).iloc[0]
    stored = json.loads(Path(result.folder, "result.json").read_text())
    assert row["student_params"] == stored["student_params"] == result.student_params


NORM = {**TAUGHT, "DISTILLER.TYPE": "NORM", "NORM.N": 2}


def test_a_run_of_norm_deploys_its_expansion(tmp_path, capsys):
    result = kdbench.train(settings(tmp_path, 2, **NORM))
    plain = build_network(settings(tmp_path, 2, **NORM), "STUDENT", build_data(settings(tmp_path, 2, **NORM)))
    own, wide = plain.spec.penultimate, 2 * 40
    assert result.student_params == plain.spec.params + 2 * own * wide + 2 * (own + wide)
    assert result.extra_params == 0
    assert main(["eval", str(result.folder)]) == 0
    assert f"top-1 {result.top1:.2f}" in capsys.readouterr().out
    found = export_run(result.folder, read(result.folder), "torch.export", tmp_path / "student.pt2", seconds=0.0)
    assert found.parity.top1 == result.top1
    logits = load_student(result.folder, read(result.folder)).model(torch.rand(5, 3, 8, 8)).logits
    torch.testing.assert_close(logits.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(logits.std(1, correction=0), torch.full((5,), 2.5))


def test_norms_terms_are_its_functions():
    teacher = kdbench.create_model("small_cnn", num_classes=4, input_size=16, seed=2, widths=[8, 8, 6])
    student = kdbench.create_model("small_cnn", num_classes=4, input_size=32, seed=1)
    method = kdbench.create_distiller("NORM", student, teacher, n=3, kd_weight=0.5, temperature=2.0)
    batch = kdbench.Batch(torch.rand(4, 3, 32, 32), torch.arange(4))
    with torch.no_grad():
        told = teacher.eval()(batch.images, need=method.teacher_needs)
    with pytest.raises(LossError, match=r"train method\.adapt"):
        method(student, told, batch)
    changed = method.adapt(student).eval()
    terms = method(changed, told, batch)
    output = changed(batch.images)
    wide = changed.backbone.adapter.expand(changed.backbone.base.forward_features(changed.prepare(batch.images)))
    torch.testing.assert_close(
        terms["norm"], kdbench.functional.norm_loss([wide], [told.stages[-1]], n=3, pool="student")
    )
    standard = (told.logits - told.logits.mean(1, keepdim=True)) / told.logits.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(
        terms["kd"],
        0.5 * kdbench.functional.kd_loss(output.logits, 2.5 * standard, temperature=2.0),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(terms["ce"], 0.1 * torch.nn.functional.cross_entropy(output.logits, batch.target))


@pytest.mark.parametrize(
    ("student", "teacher", "pool"),
    [
        ((6, 8), (6, 8), "student"),
        ((7, 7), (4, 4), "student"),
        ((4, 4), (7, 7), "teacher"),
        ((4, 8), (8, 8), "teacher"),
    ],
)
def test_maps_that_are_no_multiples_are_averaged(student, teacher, pool):
    own, told = torch.rand(2, 6, *student, requires_grad=True), torch.ones(2, 3, *teacher)
    loss = kdbench.functional.norm_loss([own], [told], n=2, pool=pool)
    loss.backward()
    assert own.grad.abs().sum() > 0
    assert float(kdbench.functional.norm_loss([torch.ones(2, 6, *student)], [told], n=2, pool=pool)) == 0.0
    with pytest.raises(ValueError, match="pool is 'teacher' or 'student'"):
        kdbench.functional.norm_loss([own], [told], n=2, pool="both")
