"""From an image file to uint8 pixels of one size: decoding, and the two ways of cutting."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image, read_file

from kdbench.data.augmentation.crops import boxes_from_draws
from kdbench.errors import DataError

#: (image (3, h, w), row of the batch) -> (3, S, S), both uint8.
Cut = Callable[[Tensor, int], Tensor]


def decode(path: Path) -> Tensor:
    """(3, h, w) uint8 RGB of a JPEG, PNG or WebP file, whatever its suffix says.

    Raises:
        DataError: the file is missing, truncated or no image.
    """
    try:
        image = decode_image(read_file(str(path)), mode=ImageReadMode.RGB)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or ["?"])[0][:100]
        raise DataError(f"{path}: cannot be decoded as an image ({reason}); restore the file or remove it") from None
    return image if image.dtype == torch.uint8 else TF.to_dtype(image, torch.uint8, scale=True)


@dataclass(frozen=True)
class CentreCut:
    """For evaluation: the shorter side to ``floor(size / crop_pct)`` as in timm, then the centre, exactly as torchvision
    does either; ``interpolation`` is ``bilinear`` or ``bicubic``."""

    size: int
    crop_pct: float = 0.875
    interpolation: str = "bilinear"

    def __call__(self, image: Tensor, row: int = 0) -> Tensor:
        """(..., h, w), uint8 or float -> (..., S, S)."""
        side = math.floor(self.size / self.crop_pct)
        resized = TF.resize(image, [side], interpolation=TF.InterpolationMode(self.interpolation), antialias=True)
        return TF.center_crop(resized, [self.size, self.size])


class RandomCut:
    """RandomResizedCrop of each image of a batch, from draws that were made for all of them.

    Args:
        draws: (B, 22) of :func:`kdbench.data.augmentation.crops.box_draws`.
        cubic: (B,) bool, bicubic instead of bilinear.
        size: side of the result.
        scale, ratio: ranges of area and of aspect ratio.
    """

    def __init__(
        self, draws: Tensor, cubic: Tensor, size: int, scale: tuple[float, float], ratio: tuple[float, float]
    ) -> None:
        self._draws, self._cubic = draws.cpu(), cubic.tolist()
        self.size, self._scale, self._ratio = size, scale, ratio

    def __call__(self, image: Tensor, row: int) -> Tensor:
        box = boxes_from_draws(self._draws[row : row + 1], image.shape[-2], image.shape[-1], self._scale, self._ratio)[
            0
        ]
        top, left, height, width = (int(v) for v in box.tolist())
        part = image[None, :, top : top + height, left : left + width]
        mode = "bicubic" if self._cubic[row] else "bilinear"
        return F.interpolate(part, (self.size, self.size), mode=mode, align_corners=False, antialias=True)[0]
