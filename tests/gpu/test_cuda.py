"""On a real GPU: runs start, repeat to the bit, resume to the same bytes, and agree with the CPU."""

from __future__ import annotations

import pytest
from on_gpu import python_on_gpu

from kdbench import list_distillers

pytestmark = pytest.mark.gpu
METHODS = list_distillers()
CHUNKS = [METHODS[i::6] for i in range(6)]  # an interpreter a few methods: it starts in seconds, a run takes one


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0", "CUDA"])
def test_a_run_starts(tmp_path, name):
    code = """
result = run("KD", sys.argv[1], **{"RUNTIME.DEVICE": sys.argv[2]})
say([result.environment["device"], bool(result.environment["gpu"]), result.environment["deterministic"]])
"""
    assert python_on_gpu(code, str(tmp_path), name) == ["cuda", True, True]


def test_a_gpu_that_is_not_there():
    code = """
try:
    run("KD", "nowhere", **{"RUNTIME.DEVICE": "cuda:99"})
except kdbench.errors.ConfigError as error:
    say(str(error))
"""
    assert "no device 'cuda:99'" in python_on_gpu(code)


@pytest.mark.parametrize("methods", CHUNKS, ids=lambda names: "-".join(names))
def test_equal_twice_and_after_an_interrupt(tmp_path, methods):
    code = """
found = {}
for method in sys.argv[2:]:
    try:
        one = digest(run(method, f"{sys.argv[1]}/{method}-one"))
        run(method, f"{sys.argv[1]}/{method}-two", stop=9)
        two = digest(run(method, f"{sys.argv[1]}/{method}-two"))
        found[method] = one == two
    except IncompatibleError as error:
        found[method] = True
say(found)
"""
    assert python_on_gpu(code, str(tmp_path), *methods) == dict.fromkeys(methods, True)


@pytest.mark.parametrize(
    "extra",
    [
        {"SOLVER.PRECISION": "bf16", "SOLVER.CHANNELS_LAST": True, "AUGMENT.MIXUP": 0.8, "AUGMENT.CUTMIX": 1.0},
        {"SOLVER.PRECISION": "fp16", "SOLVER.CLIP_GRAD": 1.0},
        {"CACHE.ENABLED": True, "SOLVER.EMA": 0.9},
        {"DATASET.VAL_FRACTION": 0.25, "SOLVER.TYPE": "ADAMW", "DATASET.NUM_WORKERS": 2},
    ],
    ids=["bf16", "fp16", "cache", "validation"],
)
def test_equal_twice_under_every_setting(tmp_path, extra):
    code = """
extra = json.loads(sys.argv[2])
one = digest(run("KD", sys.argv[1] + "/one", **extra))
run("KD", sys.argv[1] + "/two", stop=9, **extra)
say(one == digest(run("KD", sys.argv[1] + "/two", **extra)))
"""
    import json

    assert python_on_gpu(code, str(tmp_path), json.dumps(extra)) is True


def test_without_the_promise_it_is_recorded(tmp_path):
    code = """
say(run("KD", sys.argv[1], **{"RUNTIME.DETERMINISTIC": False}).environment["deterministic"])
"""
    assert python_on_gpu(code, str(tmp_path)) is False


def test_what_cannot_be_repeated_is_named(tmp_path):
    """A plug-in whose gradient PyTorch has in no fixed order."""
    code = """
import torch.nn.functional as F
from kdbench import Distiller, register_distiller

@register_distiller("POOLED")
class Pooled(Distiller):
    teacher_needs = student_needs = {"stages"}
    def losses(self, student, teacher, batch):
        return {"pool": F.adaptive_avg_pool2d(student.stages[0], 3).square().mean()}

try:
    run("POOLED", sys.argv[1])
except kdbench.errors.ConfigError as error:
    say(str(error))
"""
    assert "adaptive_avg_pool2d" in python_on_gpu(code, str(tmp_path))


def test_first_epoch_agrees_with_the_cpu(tmp_path):
    """One epoch without dropout, whose masks differ between devices."""
    code = """
extra = {"SOLVER.EPOCHS": 1, "STUDENT.OPTIONS": {}}
folders = {device: run("KD", f"{sys.argv[1]}/{device}", **extra, **{"RUNTIME.DEVICE": device}).folder for device in ("cpu", "cuda")}
say([json.loads(pathlib.Path(folder, "metrics.jsonl").read_text().splitlines()[0]) for folder in folders.values()])
"""
    cpu, gpu = python_on_gpu(code, str(tmp_path))
    assert gpu["test_loss"] == pytest.approx(cpu["test_loss"], rel=1e-3)
    assert gpu["train"] == pytest.approx(cpu["train"], rel=1e-3)


def test_one_process_of_a_group(tmp_path):
    """NCCL with a world of two takes two cards; with one process the group is not made, and nothing may ask for it."""
    code = """
os.environ.update({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"})
say(run("CRD", sys.argv[1]).environment["world_size"])
"""
    assert python_on_gpu(code, str(tmp_path)) == 1


@pytest.mark.parametrize("shape", [(7, 3), (8, 4), (5, 5), (4, 7), (6, 1)])
def test_pooling_agrees_with_pytorch_and_repeats(shape):
    code = """
import torch.nn.functional as F
from kdbench.models.backbone.pooling import adaptive_average
side, size = int(sys.argv[1]), int(sys.argv[2])
torch.use_deterministic_algorithms(True)
x = torch.randn(4, 6, side, side, device="cuda", requires_grad=True)
value = adaptive_average(x, size)
value.square().sum().backward()
y = x.detach().cpu().requires_grad_()
other = F.adaptive_avg_pool2d(y, size)
other.square().sum().backward()
say([(value.cpu() - other).abs().max().item(), (x.grad.cpu() - y.grad).abs().max().item()])
"""
    assert max(python_on_gpu(code, *map(str, shape))) < 1e-5
