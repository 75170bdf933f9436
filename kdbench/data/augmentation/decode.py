"""From an image file to uint8 pixels of one size: decoding, and the two ways of cutting."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from kdbench.data.augmentation.crops import boxes_from_draws
from kdbench.errors import DataError

#: (image (3, h, w), row of the batch) -> (3, S, S), both uint8.
Cut = Callable[[Tensor, int], Tensor]


#: pixels that an image may have by its header: four times the largest photographs, half a gigabyte in memory
_MOST_PIXELS = 2**27


def decode(path: Path) -> Tensor:
    """(3, h, w) uint8 RGB of a JPEG, PNG, WebP or GIF file, whatever its suffix says.

    PNG is decoded by Pillow: torchvision's decoder (0.29) can end the process at a damaged file. Both give the same pixels.

    Raises:
        DataError: the file is missing, truncated, no image, or says that it has more than 2**27 pixels.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the data set") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large sizes: those above the limit are refused
            image = Image.open(io.BytesIO(content))
        if image.width * image.height > _MOST_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels, more than {_MOST_PIXELS:,}")
        return _by_torchvision(content) if image.format in _BY_TORCHVISION else from_pillow(image)
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises at a damaged file, it is no image
        raise DataError(
            f"{path}: cannot be decoded as an image ({_reason(error)}); restore the file or remove it"
        ) from None


#: formats that torchvision decodes, several times as fast
_BY_TORCHVISION = ("JPEG", "WEBP", "GIF")


def _by_torchvision(content: bytes) -> Tensor:
    image = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)
    image = image[0] if image.dim() == 4 else image  # the first picture of a film
    return image if image.dtype == torch.uint8 else TF.to_dtype(image, torch.uint8, scale=True)


def from_pillow(image: Image.Image) -> Tensor:
    """(3, h, w) uint8 RGB of a Pillow image of any mode."""
    if image.mode.startswith("I"):  # 16 bits of grey, of which a conversion would keep the lower ones
        grey = torch.from_numpy(np.asarray(image).astype(np.int32) >> 8).clamp_(0, 255).to(torch.uint8)
        return grey.expand(3, -1, -1).contiguous()
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _reason(error: Exception) -> str:
    """What a decoder says, without the place in its source."""
    if isinstance(error, UnidentifiedImageError):
        return "no JPEG, PNG, WebP or GIF"
    line = (str(error).splitlines() or [""])[0]
    return re.sub(r"^\w+, \S+\.cpp:\d+, ", "", line)[:100] or type(error).__name__


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
