"""RandAugment's and AutoAugment's image operations on a group of images, each image with its own argument.

A group is (G, 3, H, W) uint8, arguments are (G,) float. Colour operations are torchvision's (its formulas, with one
factor an image; where it needs none, its functions); autocontrast, contrast, colour and equalize may differ by a grey
level or two from PIL's, which round differently. Geometric operations sample all images of a group at once, with the
corner of the image at coordinate 0 as in PIL and one fill colour outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from kdbench.data.augmentation import forms
from kdbench.data.augmentation.rows import to_bytes

GEOMETRIC = ("ShearX", "ShearY", "TranslateXRel", "TranslateYRel", "Rotate")
_GREY = (0.2989, 0.587, 0.114)  # torchvision's weights


def _per_image(argument: Tensor) -> Tensor:
    return argument.view(-1, 1, 1, 1)


def _to_uint8(images: Tensor) -> Tensor:
    return to_bytes(images.clamp_(0.0, 255.0))


def grey(images: Tensor) -> Tensor:
    """(G, 3, H, W) float -> (G, 1, H, W) float luminance."""
    r, g, b = images.unbind(1)
    return (r * _GREY[0]).add_(g, alpha=_GREY[1]).add_(b, alpha=_GREY[2])[:, None]


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """``factor * images + (1 - factor) * other``, in place of ``images`` (float)."""
    factor = _per_image(factor)
    return images.mul_(factor).add_(other * (1.0 - factor))


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Factor 0 is black, 1 the image."""
    return _to_uint8(images.float().mul_(_per_image(factor)))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Factor 0 is the mean luminance, 1 the image."""
    x = images.float()
    mean = grey(x).floor_().mean(dim=(1, 2, 3), keepdim=True)
    return _to_uint8(blend(x, mean, factor))


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Factor 0 is grey, 1 the image."""
    x = images.float()
    return _to_uint8(blend(x, grey(x).floor_(), factor))


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Factor 0 is smoothed by PIL's SMOOTH kernel, 1 the image; the outermost pixels stay."""
    if min(images.shape[-2:]) <= 2:
        return images
    x = images.float()
    inner = x[..., 1:-1, 1:-1]
    # The kernel is a 3x3 box of ones plus 4 in the middle, over 13; the box as sums of rows, then of columns.
    rows = (x[..., :-2, :] + x[..., 1:-1, :]).add_(x[..., 2:, :])
    smooth = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(inner, alpha=4.0).div_(13.0).round_()
    inner.add_(smooth.sub_(inner).mul_(_per_image(1.0 - factor)))
    return _to_uint8(x)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the ``bits`` highest bits; 0 gives black, on which PIL 13 raises."""
    mask = (256 - torch.pow(2.0, 8.0 - bits.clamp(0, 8))).to(torch.uint8)
    return images & _per_image(mask)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values that are not below ``threshold``, 0..256."""
    # Comparisons of bytes are slow, minima and maxima are not: 1 where a value is above the one below the threshold.
    threshold = threshold.ceil()
    low = _per_image((threshold - 1).clamp(0, 255)).to(torch.uint8)
    high = _per_image(threshold.clamp(0, 255)).to(torch.uint8)
    above = torch.minimum(torch.maximum(images, low), high).sub_(low).add_(_per_image(threshold <= 0).to(torch.uint8))
    return above.mul_(255).bitwise_xor_(images)


def solarize_add(images: Tensor, amount: Tensor) -> Tensor:
    """Add ``amount``, 0..128, to the values below 128."""
    amount = _per_image(amount.clamp(0, 128)).to(torch.uint8)
    return (1 - (images >> 7)).mul_(amount).add_(images)


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to 0..255."""
    if forms.by_host(images):
        return TF.autocontrast(images)
    x = images.float()
    low, high = x.amin(dim=(-2, -1), keepdim=True), x.amax(dim=(-2, -1), keepdim=True)
    flat = high == low
    scale = torch.where(flat, 1.0, high.sub_(low).mul_(1.0 / 255.0))
    return _to_uint8(x.sub_(torch.where(flat, 0.0, low)).div_(scale))


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Equalise each channel's histogram."""
    return TF.equalize(images) if forms.by_host(images) else _equalize_sorted(images)


def _equalize_sorted(images: Tensor) -> Tensor:
    """torchvision's equalize with its histogram read off the sorted values: sums of counts that are scattered have no fixed order
    on a GPU, so that PyTorch's deterministic mode makes them slow."""
    values = images.flatten(2)
    ordered = values.sort(dim=-1).values
    levels = torch.arange(256, dtype=torch.uint8, device=images.device).expand(*values.shape[:2], -1).contiguous()
    upto = torch.searchsorted(ordered, levels, right=True)
    below_the_highest = torch.searchsorted(ordered, ordered[..., -1:].contiguous())
    step = below_the_highest.div(255, rounding_mode="floor")
    table = (upto[..., :-1] + step // 2).div_(step.clamp(min=1), rounding_mode="floor").clamp_(0, 255)
    table = F.pad(table.to(torch.uint8), (1, 0))
    equal = table.gather(-1, values.long())
    return torch.where(step != 0, equal, values).view(images.shape)


def invert(images: Tensor, _: Tensor) -> Tensor:
    """255 - x."""
    return 255 - images


COLOUR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
    "Posterize": posterize,
    "Solarize": solarize,
    "SolarizeAdd": solarize_add,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
}


def matrices(name: str, argument: Tensor, height: int, width: int) -> Tensor:
    """(G, 2, 3) maps from output to input pixels, PIL's convention: ``x_in = a x + b y + c``, pixel centres at halves.

    Args:
        name: one of ``GEOMETRIC``.
        argument: (G,) shear factor, share of the side, or degrees counter-clockwise.
        height, width: of the images.
    """
    one, zero = torch.ones_like(argument), torch.zeros_like(argument)
    if name == "Rotate":
        angle = argument * (math.pi / 180.0)
        cos, sin = angle.cos(), angle.sin()
        x, y = width / 2.0, height / 2.0
        rows = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)
    else:
        rows = {
            "ShearX": (one, argument, zero, zero, one, zero),
            "ShearY": (one, zero, zero, argument, one, zero),
            "TranslateXRel": (one, zero, argument * width, zero, one, zero),
            "TranslateYRel": (one, zero, zero, zero, one, argument * height),
        }[name]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def warp(images: Tensor, maps: Tensor, fill: tuple[float, float, float], mode: str = "bilinear") -> Tensor:
    """Sample each image through its own affine map; what lies outside has the fill colour.

    Args:
        images: (G, 3, H, W) uint8.
        maps: (G, 2, 3) of :func:`matrices`.
        fill: one value a channel, 0..255.
        mode: ``bilinear``, ``bicubic`` (PyTorch's kernel, a = -0.75, where PIL's geometry takes a = -1) or ``nearest``.
    """
    height, width = images.shape[-2:]
    # From pixels, centres at halves, to grid_sample's coordinates in [-1, 1]; affine_grid takes ten times as long.
    x = torch.arange(width, dtype=maps.dtype, device=maps.device) + 0.5
    y = torch.arange(height, dtype=maps.dtype, device=maps.device) + 0.5
    grid = torch.empty(len(images), height, width, 2, device=images.device)
    for axis, side in enumerate((width, height)):
        along, down, shift = (maps[:, axis, :, None, None] * (2.0 / side)).unbind(1)
        torch.add((along * x + shift - 1.0).float(), (down * y[:, None]).float(), out=grid[..., axis])
    colour = forms.constant(tuple(fill), images.device).view(1, 3, 1, 1)
    # Outside counts as zero, so with the fill colour at zero the border blends into it.
    moved = F.grid_sample(images.float().sub_(colour), grid, mode=mode, padding_mode="zeros", align_corners=False)
    # PIL cuts a mean's fraction off; the margin is for values that are whole.
    moved.add_(colour + (0.5 if mode == "nearest" else 2.0**-8))
    # A mean with weights of both signs can leave 0..255, the others cannot.
    return to_bytes(moved.clamp_(0.0, 255.0) if mode == "bicubic" else moved)


def apply_op(
    name: str,
    images: Tensor,
    argument: Tensor,
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0),
    mode: str = "bilinear",
) -> Tensor:
    """One operation on a group: (G, 3, H, W) uint8, (G,) arguments -> (G, 3, H, W) uint8."""
    if name in GEOMETRIC:
        return warp(images, matrices(name, argument, *images.shape[-2:]), fill, mode)
    return COLOUR[name](images, argument)
