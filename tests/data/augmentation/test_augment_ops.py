"""Operations one by one, against torchvision (exactly) and PIL (within the rounding that differs)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image, ImageEnhance, ImageOps
from replicas import picture
from timm.data import auto_augment as timm_ops
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import AutoAugment, AutoAugmentPolicy, _apply_op

from kdbench.data.augmentation.colour import jitter
from kdbench.data.augmentation.policies.ops import COLOUR, GEOMETRIC, apply_op
from kdbench.data.augmentation.policies.policy import CifarPolicy, Layer, RandAugment, make_policy
from kdbench.data.augmentation.policies.policy_plan import plan_policy
from kdbench.errors import ConfigError
from kdbench.random import CounterRNG

PICTURES = [picture(seed, 64, 64) for seed in range(6)]
IMAGES = torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in PICTURES])
FACTORS = torch.tensor([0.1, 0.5, 0.97, 1.0, 1.4, 1.9])
FILL = (124.0, 116.0, 104.0)


def as_tensor(images: list[Image.Image]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in images])


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("Brightness", TF.adjust_brightness),
        ("Contrast", TF.adjust_contrast),
        ("Color", TF.adjust_saturation),
        ("Sharpness", TF.adjust_sharpness),
    ],
)
def test_factors_equal_torchvision(name, reference):
    expected = torch.stack([reference(x, float(f)) for x, f in zip(IMAGES, FACTORS)])
    difference = (apply_op(name, IMAGES, FACTORS).int() - expected.int()).abs()
    # The sums are the same, in another order: a value on the edge may fall to the other side.
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 1e-2


def test_levels_equal_torchvision():
    bits = torch.tensor([1.0, 2.0, 4.0, 5.0, 7.0, 8.0])
    assert torch.equal(
        apply_op("Posterize", IMAGES, bits), torch.stack([TF.posterize(x, int(b)) for x, b in zip(IMAGES, bits)])
    )
    threshold = torch.tensor([0.0, 25.6, 128.0, 200.0, 255.0, 256.0])
    expected = torch.stack([TF.solarize(x, float(t)) if t < 256 else x for x, t in zip(IMAGES, threshold)])
    assert torch.equal(apply_op("Solarize", IMAGES, threshold), expected)
    for name, reference in (("AutoContrast", TF.autocontrast), ("Equalize", TF.equalize), ("Invert", TF.invert)):
        assert torch.equal(apply_op(name, IMAGES, FACTORS), torch.stack([reference(x) for x in IMAGES]))
    assert apply_op("Posterize", IMAGES, torch.zeros(6)).max() == 0


@pytest.mark.parametrize(
    ("name", "argument", "reference", "tolerance"),
    [
        ("Posterize", 3.0, lambda im, a: ImageOps.posterize(im, int(a)), 0),
        ("Solarize", 90.0, lambda im, a: ImageOps.solarize(im, int(a)), 0),
        ("SolarizeAdd", 99.0, lambda im, a: timm_ops.solarize_add(im, int(a)), 0),
        ("Invert", 0.0, lambda im, a: ImageOps.invert(im), 0),
        ("AutoContrast", 0.0, lambda im, a: ImageOps.autocontrast(im), 1),
        ("Equalize", 0.0, lambda im, a: ImageOps.equalize(im), 1),
        ("Brightness", 0.3, lambda im, a: ImageEnhance.Brightness(im).enhance(a), 1),
        ("Brightness", 1.8, lambda im, a: ImageEnhance.Brightness(im).enhance(a), 1),
        ("Contrast", 0.3, lambda im, a: ImageEnhance.Contrast(im).enhance(a), 2),
        ("Contrast", 1.8, lambda im, a: ImageEnhance.Contrast(im).enhance(a), 2),
        ("Color", 0.3, lambda im, a: ImageEnhance.Color(im).enhance(a), 2),
        ("Color", 1.8, lambda im, a: ImageEnhance.Color(im).enhance(a), 2),
        ("Sharpness", 0.3, lambda im, a: ImageEnhance.Sharpness(im).enhance(a), 2),
        ("Sharpness", 1.8, lambda im, a: ImageEnhance.Sharpness(im).enhance(a), 2),
    ],
)
def test_colour_equals_pil(name, argument, reference, tolerance):
    expected = as_tensor([reference(p, argument) for p in PICTURES])
    got = apply_op(name, IMAGES, torch.full((6,), argument))
    assert (got.int() - expected.int()).abs().max() <= tolerance


@pytest.mark.parametrize(
    ("name", "argument", "reference"),
    [
        ("ShearX", 0.27, timm_ops.shear_x),
        ("ShearY", -0.2, timm_ops.shear_y),
        ("TranslateXRel", 0.31, timm_ops.translate_x_rel),
        ("TranslateYRel", -0.4, timm_ops.translate_y_rel),
        ("Rotate", 27.0, timm_ops.rotate),
        ("Rotate", -12.5, timm_ops.rotate),
    ],
)
def test_geometry_equals_timm(name, argument, reference):
    kwargs = {"resample": Image.Resampling.BILINEAR, "fillcolor": tuple(int(f) for f in FILL)}
    expected = as_tensor([reference(p, argument, **dict(kwargs)) for p in PICTURES])
    got = apply_op(name, IMAGES, torch.full((6,), argument, dtype=torch.float64), FILL)
    difference = (got.int() - expected.int()).abs().amax(1)
    # Inside the image the two agree; at its edge PIL repeats the last pixel, here it fades into the fill.
    assert (difference > 1).float().mean() < 0.06
    assert difference.float().median() == 0


@pytest.mark.parametrize(
    ("name", "argument", "reference"), [("ShearX", 0.27, timm_ops.shear_x), ("Rotate", 27.0, timm_ops.rotate)]
)
def test_bicubic_geometry_is_nearest_to_timms_bicubic(name, argument, reference):
    """PyTorch's kernel is not PIL's, but no other interpolation is as near to it."""
    kwargs = {"resample": Image.Resampling.BICUBIC, "fillcolor": tuple(int(f) for f in FILL)}
    expected = as_tensor([reference(p, argument, **dict(kwargs)) for p in PICTURES]).float()
    angle = torch.full((6,), argument, dtype=torch.float64)
    error = {
        m: (apply_op(name, IMAGES, angle, FILL, m) - expected)[..., 16:48, 16:48].abs().mean()
        for m in ("bilinear", "bicubic", "nearest")
    }
    assert error["bicubic"] < 0.6 * min(error["bilinear"], error["nearest"])


def test_geometry_takes_the_interpolation_that_was_drawn():
    """Rotations alone, half of them bicubic; the rest of a policy does not ask."""
    draw = torch.arange(400)
    policy = make_policy("rand-m9-p1.0-n1", "random")
    (layer,) = policy.draw(lambda stream: CounterRNG(0, stream, 1, draw))
    assert 0.4 < layer.cubic.float().mean() < 0.6
    for name, share in (("bilinear", 0), ("bicubic", 1)):
        (fixed,) = make_policy("rand-m9-p1.0-n1", name).draw(lambda stream: CounterRNG(0, stream, 1, draw))
        assert fixed.cubic.float().mean() == share
        assert torch.equal(fixed.op, layer.op)
    images = IMAGES[:1].expand(400, -1, -1, -1).contiguous()
    got = plan_policy(policy, lambda stream: CounterRNG(0, stream, 1, draw), 64, FILL).run(images.clone())
    rotate = torch.nonzero(layer.op == policy.names.index("Rotate")).flatten()
    argument = policy.argument("Rotate", layer, rotate, images.shape[-1])
    for mode, chosen in (("bicubic", layer.cubic[rotate]), ("bilinear", ~layer.cubic[rotate])):
        assert chosen.any()
        assert torch.equal(
            got[rotate[chosen]], apply_op("Rotate", images[rotate[chosen]], argument[chosen], FILL, mode)
        )


@pytest.mark.parametrize("name", GEOMETRIC)
def test_each_image_has_its_own_argument(name):
    argument = torch.linspace(-0.4, 0.4, 6).double() * (60 if name == "Rotate" else 1)
    together = apply_op(name, IMAGES, argument, FILL)
    alone = torch.cat([apply_op(name, IMAGES[i : i + 1], argument[i : i + 1], FILL) for i in range(6)])
    assert torch.equal(together, alone)
    still = apply_op(name, IMAGES, torch.zeros(6, dtype=torch.float64), FILL)
    assert (still.int() - IMAGES.int()).abs().max() <= 1


@pytest.mark.parametrize("name", sorted(COLOUR))
def test_operations_leave_their_input_alone(name):
    before = IMAGES.clone()
    apply_op(name, IMAGES, torch.full((6,), 1.3))
    assert torch.equal(IMAGES, before)


def test_cifar_policy_equals_torchvision():
    theirs, ours = AutoAugment(AutoAugmentPolicy.CIFAR10), CifarPolicy()
    meta = theirs._augmentation_space(10, (64, 64))
    for pair in theirs.policies:
        for op, _, level in pair:
            name = op + "Rel" * op.startswith("Translate")
            values, signed = meta[op]
            value = float(values[level]) if level is not None else 0.0
            layer = Layer(torch.tensor([0]), *(torch.tensor([v]) for v in (True, level or 0, False, False)))
            argument = ours.argument(name, layer, torch.tensor([0]), 64)
            got = apply_op(name, IMAGES[:1], argument, mode=ours.mode)
            if name in ("TranslateXRel", "TranslateYRel", "ShearX"):
                # torchvision moves the image, PIL's matrix the place that is read; the sign is drawn anyway
                got = apply_op(name, IMAGES[:1], -argument, mode=ours.mode)
            expected = _apply_op(IMAGES[0], op, value, InterpolationMode.NEAREST, None)
            # nearest neighbour: a pixel whose source lies between two may take either
            assert ((got[0].int() - expected.int()).abs() > 1).float().mean() < 0.04, (op, level, signed)


def timm_argument(name: str, increasing: bool, level: float) -> float:
    suffix = (
        "Increasing"
        if increasing and name in ("Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness")
        else ""
    )
    return float(timm_ops.LEVEL_TO_ARG[name + suffix](level, {})[0])


@pytest.mark.parametrize("increasing", [True, False])
def test_arguments_equal_timms(increasing):
    policy = RandAugment(increasing=increasing)
    levels = [0.0, 1.0, 4.99, 7.3, 9.0, 9.6, 10.0]
    count = len(levels)
    for name in policy.names[3:]:
        layer = Layer(
            torch.zeros(count, dtype=torch.int64),
            torch.ones(count, dtype=torch.bool),
            torch.tensor(levels, dtype=torch.float64),
            torch.zeros(count, dtype=torch.bool),
            torch.zeros(count, dtype=torch.bool),
        )
        got = policy.argument(name, layer, torch.arange(count), 64).tolist()
        opposite = replace(layer, negative=~layer.negative)
        other = policy.argument(name, opposite, torch.arange(count), 64).tolist()
        for value, mirrored, level in zip(got, other, levels):
            # timm draws the sign itself; either is right
            found = {round(timm_argument(name, increasing, level), 5) for _ in range(40)}
            assert {round(value, 5), round(mirrored, 5)} == found, (name, level)


def test_policy_strings():
    assert make_policy("") is None
    policy = make_policy("rand-m9-mstd0.5-inc1")
    assert policy == RandAugment(9.0, 0.5, 2, 0.5, True, 10.0)
    assert make_policy("rand-m7-n3-p1.0-mmax12") == RandAugment(7.0, 0.0, 3, 1.0, False, 12.0)
    assert make_policy("rand-m9-mstd101").std == math.inf
    assert policy.names == tuple(n.replace("Increasing", "") for n in timm_ops._RAND_INCREASING_TRANSFORMS)
    assert isinstance(make_policy("cifar"), CifarPolicy)
    for wrong in ("random-m9", "rand-m9-x3", "rand-tweights", "rand-m", "imagenet"):
        with pytest.raises(ConfigError, match=r"AUGMENT\.AUTO"):
            make_policy(wrong)


def test_colour_jitter_equals_torchvision():
    images = IMAGES.float() / 255
    factors = torch.rand(6, 3) * 0.8 + 0.6
    order = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    functions = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)
    expected = []
    for image, factor, sequence in zip(images, factors, order.tolist()):
        for kind in sequence:
            image = functions[kind](image, float(factor[kind]))
        expected.append(image)
    assert torch.allclose(jitter(images.clone(), factors, order), torch.stack(expected), atol=2e-6)
