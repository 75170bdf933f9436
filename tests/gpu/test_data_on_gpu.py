"""On a real GPU: the pixels of the CPU, wherever the images live, and no wait for the device after an epoch's first batch."""

from __future__ import annotations

import pytest
from on_gpu import python_on_gpu

pytestmark = pytest.mark.gpu

_LOADERS = """
from kdbench.data.augmentation.augment import Augment
from kdbench.data.loader import TrainLoader, evaluation_batches
from kdbench.data.source import MemorySplit

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
torch.use_deterministic_algorithms(True)
MIX = {"mixup": 0.8, "cutmix": 1.0, "num_classes": 5, "smoothing": 0.1}
AUGMENTS = {
    "pad": Augment("pad", 4, 0.5),
    "flip": Augment("none", 0, 0.5),
    "enlarged": Augment("pad", 4, 0.5, size=48),
    "jitter": Augment("none", 0, 0.5, color_jitter=0.4),
    "erase": Augment("pad", 4, 0.5, erase=0.7),
    "mix": Augment("pad", 4, 0.5, **MIX),
    "rrc": Augment("rrc", 0, 0.5, size=40, interpolation="random"),
    "rand": Augment("pad", 4, 0.5, interpolation="random", auto="rand-m9-mstd0.5-inc1"),
    "cifar": Augment("pad", 4, 0.5, auto="cifar"),
    "rich": Augment("rrc", 0, 0.5, size=40, interpolation="random", auto="rand-m9-mstd0.5-inc1", erase=0.5, **MIX),
}

def memory(count=2000):
    small = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    images = torch.nn.functional.interpolate(small, (32, 32), mode="bicubic").clamp(0, 255).to(torch.uint8)
    return MemorySplit(images, torch.arange(count) % 5)

def loader(name, device, split=None, **how):
    how = {"batch_size": 64, "seed": 1, "aug_seed": 2, **how}
    return TrainLoader(memory() if split is None else split, augment=AUGMENTS[name], device=device, **how)

def epoch(one, number=1):
    batches = list(one.epoch(number))
    assert all(torch.equal(b.draw.cpu(), b.host_draw) and b.host_draw.device == CPU for b in batches)
    return [torch.cat([getattr(b, name).cpu() for b in batches]) for name in ("images", "target", "draw")]

def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other))
"""


def on_gpu(code: str, *words: str):
    return python_on_gpu(_LOADERS + code, *words)


@pytest.mark.parametrize("name", ["pad", "flip"])
def test_pixels_that_are_only_moved_are_equal(name):
    assert on_gpu("say(equal(epoch(loader(sys.argv[1], CPU)), epoch(loader(sys.argv[1], GPU))))", name) is True


@pytest.mark.parametrize("name", ["enlarged", "jitter", "erase", "mix", "rrc"])
def test_computed_pixels_agree(name):
    code = """
(a, x, d), (b, y, e) = (epoch(loader(sys.argv[1], device)) for device in (CPU, GPU))
say([torch.equal(d, e), (a - b).abs().max().item(), (x - y).abs().max().item()])
"""
    order, pixels, labels = on_gpu(code, name)
    assert order is True
    # as far as sums of some dozen numbers of the size of one are rounded
    assert pixels < (4e-6 if name == "erase" else 2e-6)
    assert labels < 1e-6


@pytest.mark.parametrize("name", ["rand", "cifar"])
def test_policies_agree_but_for_grey_levels_on_an_edge(name):
    code = """
a, b = (epoch(loader(sys.argv[1], device))[0] for device in (CPU, GPU))
say([((a - b).abs() > 1e-6).float().mean().item(), (a - b).abs().mean().item()])
"""
    share, mean = on_gpu(code, name)
    assert share < 1e-2
    assert mean < 1e-4


@pytest.mark.parametrize("name", ["pad", "rand", "rich"])
def test_it_does_not_matter_where_the_images_live_or_who_prepares_them(name):
    code = """
split, outside = memory(), memory()
one = epoch(loader(sys.argv[1], GPU, split))
outside.copies[GPU] = None
found = [split.copies[GPU] is not None, equal(one, epoch(loader(sys.argv[1], GPU, split)))]
found += [equal(one, epoch(loader(sys.argv[1], GPU, outside, workers=workers))) for workers in (0, 2)]
say(found)
"""
    assert on_gpu(code, name) == [True, True, True, True]


@pytest.mark.parametrize("name", ["pad", "rand", "rich", "jitter"])
def test_nothing_waits_after_the_first_batch(name):
    """PyTorch raises where an operation waits for the device."""
    code = """
batches = loader(sys.argv[1], GPU, memory(20000)).epoch(1)
total = next(batches).images.sum()
torch.cuda.set_sync_debug_mode("error")
count = 1
for batch in batches:
    total += batch.images.sum()
    count += 1
torch.cuda.set_sync_debug_mode("default")
say([count, bool(total.isfinite())])
"""
    assert on_gpu(code, name) == [313, True]


def test_image_files_agree_with_the_cpu(tmp_path):
    code = """
from PIL import Image
from kdbench.data.sets.folder import folder
for part, label in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
    place = pathlib.Path(sys.argv[1], part, label)
    place.mkdir(parents=True)
    for number in range(24):
        Image.fromarray(memory(1).images[0].permute(1, 2, 0).numpy()).resize((90 + number, 80)).save(place / f"{number}.jpg")
split = folder(sys.argv[1]).train
cpu = epoch(loader("rrc", CPU, split, batch_size=8))
say([equal(cpu, epoch(loader("rrc", GPU, split, batch_size=8, workers=workers))) for workers in (0, 3)])
"""
    assert on_gpu(code, str(tmp_path)) == [True, True]


@pytest.mark.parametrize("lives", ["1", "0"])
def test_evaluation_agrees(lives):
    code = """
split = memory()
if sys.argv[1] == "0":
    split.copies[GPU] = None
worst = 0.0
for size in (0, 40):
    for (a, x), (b, y) in zip(evaluation_batches(split, 64, size, CPU, 1, 3), evaluation_batches(split, 64, size, GPU, 1, 3)):
        assert b.device == y.device == GPU and torch.equal(x, y.cpu())
        worst = max(worst, (a - b.cpu()).abs().max().item())
say(worst)
"""
    assert on_gpu(code, lives) < 2e-6


def test_an_epoch_that_is_left_early_does_no_harm():
    code = """
split = memory()
one = loader("pad", GPU, split)
for number in range(1, 30):
    next(one.epoch(number))
say(equal(epoch(loader("pad", CPU)), epoch(one)))
"""
    assert on_gpu(code) is True


def test_reading_the_teacher_cache_is_the_run_that_filled_it(tmp_path):
    code = """
shared = {"CACHE.ENABLED": True, "CACHE.DIR": sys.argv[1] + "/cache", "SOLVER.BATCH_SIZE": 4}
filled = digest(run("KD", sys.argv[1] + "/filled", **shared))
views = len(list(pathlib.Path(sys.argv[1], "cache").rglob("view*.bin")))
say([views, filled == digest(run("KD", sys.argv[1] + "/read", **shared))])
"""
    assert python_on_gpu(code, str(tmp_path)) == [2, True]


def test_outputs_that_cannot_be_stored_end_the_run(tmp_path):
    code = """
teacher = kdbench.create_model("small_cnn", num_classes=10, seed=0, widths=[12, 16, 24])
teacher.backbone.fc.bias.data.fill_(1e6)
torch.save(teacher.backbone.state_dict(), sys.argv[1] + "/teacher.pt")
given = {"TEACHER.WEIGHTS": sys.argv[1] + "/teacher.pt", "TEACHER.NORM": "none", "CACHE.ENABLED": True}
try:
    run("KD", sys.argv[1], **given)
except kdbench.errors.DataError as error:
    say([str(error), len(list(pathlib.Path(sys.argv[1]).rglob("view*.bin")))])
"""
    error, views = python_on_gpu(code, str(tmp_path))
    assert "16 bits" in error
    assert views == 0
