"""Image files that were damaged or are hostile: one line, whatever byte it is; the process goes on."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import to_dtype

from kdbench.data.augmentation.decode import decode
from kdbench.errors import DataError

SHAPE = (9, 7)


def picture(mode: str) -> Image.Image:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, SHAPE, dtype=np.uint16))
    colour = Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8))
    return colour.quantize(16) if mode == "P" else colour.convert(mode)


def encoded(mode: str, form: str) -> bytes:
    stream = io.BytesIO()
    picture(mode).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "I;16"])
def test_png_has_the_pixels_that_torchvision_gives(tmp_path, mode):
    content = encoded(mode, "PNG")
    (tmp_path / "a.png").write_bytes(content)
    other = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)
    other = other if other.dtype == torch.uint8 else to_dtype(other, torch.uint8, scale=True)
    assert torch.equal(decode(tmp_path / "a.png"), other)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_every_byte_of_a_small_file(tmp_path, form):
    """Each byte changed, and the file cut there: an image of three channels, or one line."""
    good, file = encoded("RGB", form), tmp_path / f"a.{form.lower()}"
    refused: list[str] = []
    for place in range(len(good)):
        for bad in (good[:place], good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :]):
            file.write_bytes(bad)
            try:
                image = decode(file)
                assert (image.dtype, image.shape[0]) == (torch.uint8, 3)
            except DataError as error:
                refused.append(str(error))
    assert len(refused) > len(good) // 4
    assert all(line.startswith(f"{file}: ") and "\n" not in line and ".cpp" not in line for line in refused)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_bomb_is_refused_by_its_header(tmp_path):
    file = tmp_path / "bomb.png"
    for side, reason in ((12_000, r"12000 x 12000 pixels, more than 134,217,728"), (20_000, r"400000000 pixels")):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        rows = zlib.compressobj(9)
        content = b"".join(rows.compress(bytes(1 + 3 * side)) for _ in range(40)) + rows.flush()
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b""))
        with pytest.raises(DataError, match=reason):
            decode(file)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x00\x00\x00\x00WEBP", b"\xff\xd8\xff"]
)
def test_what_is_no_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: cannot be decoded as an image \(.+\); restore the file"):
        decode(tmp_path / "a.png")


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: cannot be read \(No such file"):
        decode(tmp_path / "gone.png")
