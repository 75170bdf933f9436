"""MNIST and the like, from small files in their official format: wherever they lie, never anything else than they are."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets as tvd

import kdbench
from kdbench.data.sets import mnist
from kdbench.data.sets.formats import idx_files
from kdbench.data.sets.formats.idx_files import TEST, TRAIN, read_files
from kdbench.errors import DataError, ModelError

SYSTEM = Path("/usr/share/datasets/fashion-mnist")


def idx(array: np.ndarray) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def contents(train: int = 20, test: int = 10) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    found = {}
    for (images, labels), count in ((TRAIN, train), (TEST, test)):
        found[images] = idx(rng.integers(0, 256, (count, 28, 28)))
        found[labels] = idx(np.arange(count) % 10)
    return found


def write(folder: Path, files: dict[str, bytes], *, packed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in files.items():
        (folder / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(blob, mtime=0) if packed else blob)


def official(files: dict[str, bytes], *, known: bool = True) -> idx_files.IdxFiles:
    """As if these were the published files."""
    packed = {name: hashlib.md5(gzip.compress(blob, mtime=0)).hexdigest() for name, blob in files.items()}
    unpacked = {name: hashlib.md5(blob).hexdigest() for name, blob in files.items()} if known else {}
    return replace(mnist.FASHION, packed=packed, unpacked=unpacked, system=())


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", [".", "FashionMNIST/raw", "fashionmnist", "fashion-mnist"])
def test_files_are_found_and_equal_torchvisions(tmp_path, place, packed):
    files = contents()
    write(tmp_path / place, files, packed=packed)
    train, test = read_files(official(files), tmp_path, download=False)
    assert (len(train), len(test)) == (20, 10)
    assert train.images.shape == (20, 3, 28, 28)
    if not packed and place == "FashionMNIST/raw":
        theirs = tvd.FashionMNIST(str(tmp_path), train=True)
        assert torch.equal(theirs.data, train.images[:, 0])
        assert torch.equal(theirs.data, train.images[:, 2])
        assert torch.equal(theirs.targets, train.labels)


def test_constants_are_torchvisions():
    for ours, theirs in ((mnist.MNIST, tvd.MNIST), (mnist.FASHION, tvd.FashionMNIST), (mnist.KMNIST, tvd.KMNIST)):
        assert dict(theirs.resources) == {f"{name}.gz": md5 for name, md5 in ours.packed.items()}
        assert ours.url in theirs.mirrors
        assert ours.title == theirs.__name__


def test_what_is_not_official_is_refused_unless_allowed(tmp_path):
    files = contents()
    write(tmp_path, {**files, TRAIN[1]: idx(np.zeros(20))}, packed=True)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: is not the official file \(md5 of its content"):
        read_files(official(files), tmp_path, download=False)
    assert read_files(official(files), tmp_path, download=False, check=False)[0].labels.sum() == 0


def test_packed_anew_is_still_official(tmp_path):
    files = contents()
    for name, blob in files.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(blob, compresslevel=1, mtime=7))
    assert len(read_files(official(files), tmp_path, download=False)[0]) == 20
    with pytest.raises(DataError, match=r"only the published \.gz is known"):
        read_files(official(files, known=False), tmp_path, download=False)


@pytest.mark.parametrize(
    ("name", "blob", "words"),
    [
        (TRAIN[0], b"", "is no IDX file of 3 dimensions (begins with nothing)"),
        (TRAIN[0], idx(np.zeros(20)), "is no IDX file of 3 dimensions (begins with 00000801)"),
        (TRAIN[0], idx(np.zeros((20, 28, 28)))[:-1], "has 15679 values, its head says 20 x 28 x 28"),
        (TRAIN[0], bytes((0, 0, 8, 3)) + b"\xff" * 12, "its head says 4294967295 x 4294967295 x 4294967295"),
        (TRAIN[0], idx(np.zeros((20, 28, 27))), "(20, 28, 27) images and (20,) labels do not make a data set"),
        (TRAIN[1], idx(np.zeros(19)), "(20, 28, 28) images and (19,) labels do not make a data set"),
        (TRAIN[1], idx(np.full(20, 10)), "label 10 is none of 0 to 9"),
        (TEST[1], b"\x80\x04\x95cos\nsystem\n", "is no IDX file of 1 dimensions"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, name, blob, words):
    files = {**contents(), name: blob}
    write(tmp_path, files, packed=False)
    with pytest.raises(DataError) as caught:
        read_files(official(files), tmp_path, download=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_archives_are_one_line(tmp_path):
    files = contents()
    write(tmp_path, files, packed=True)
    whole = (tmp_path / f"{TRAIN[0]}.gz").read_bytes()
    for blob in (whole[:-9], whole[:5], b"no gzip", whole[:40] + b"\x00" * 40 + whole[80:]):
        (tmp_path / f"{TRAIN[0]}.gz").write_bytes(blob)
        with pytest.raises(DataError, match="cannot be read"):
            read_files(official(files), tmp_path, download=False)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    files = {**contents(), TRAIN[0]: b"\x00" * 5_000_000}
    write(tmp_path, files, packed=True)
    monkeypatch.setattr(idx_files, "_MOST", 1_000_000)
    with pytest.raises(DataError, match="more than 1,000,000 bytes unpacked"):
        read_files(official(files), tmp_path, download=False)


def test_missing_files_are_named(tmp_path, monkeypatch):
    files = contents()
    with pytest.raises(DataError, match="no FashionMNIST there; put the four files of http"):
        read_files(official(files), tmp_path, download=False)
    write(tmp_path, {name: blob for name, blob in files.items() if name != TEST[1]}, packed=True)
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is missing beside train-images-idx3-ubyte"):
        read_files(official(files), tmp_path, download=False)

    def refused(url, folder, filename, md5):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / filename).write_bytes(b"half")
        raise OSError("no network")

    monkeypatch.setattr(idx_files, "download_url", refused)
    with pytest.raises(DataError, match=r"cannot be downloaded \(no network\)"):
        read_files(official(files), tmp_path / "new", download=True)
    assert [file for file in (tmp_path / "new").rglob("*") if file.is_file()] == []


def test_they_are_fetched(tmp_path, monkeypatch):
    files, asked = contents(), []

    def fetched(url, folder, filename, md5):
        name = url.rpartition("/")[2].removesuffix(".gz")
        asked.append((url, md5))
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / filename).write_bytes(gzip.compress(files[name], mtime=0))

    monkeypatch.setattr(idx_files, "download_url", fetched)
    train, _ = read_files(official(files), tmp_path, download=True)
    assert len(train) == 20
    assert asked[0] == (f"{mnist.FASHION.url}{TRAIN[0]}.gz", official(files).packed[TRAIN[0]])
    assert len(asked) == 4
    assert (tmp_path / "FashionMNIST" / "raw" / f"{TRAIN[0]}.gz").is_file()


def test_numbers_of_images_are_checked(tmp_path, monkeypatch):
    files = contents()
    write(tmp_path, files, packed=True)
    monkeypatch.setattr(mnist, "FASHION", official(files))
    with pytest.raises(DataError, match="20 training images instead of 60000"):
        mnist.fashion_mnist(str(tmp_path), download=False)
    source = mnist.fashion_mnist(str(tmp_path), download=False, allow_partial=True)
    assert (source.num_classes, source.image_size, source.standard.flip) == (10, 28, 0.5)


@pytest.mark.skipif(not SYSTEM.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_files_are_the_official_ones(tmp_path):
    source = mnist.fashion_mnist(str(tmp_path), download=False)
    assert source.train.labels.bincount().tolist() == [6000] * 10
    pixels = source.train.images[:, 0].double() / 255
    assert source.statistics[0][0] == pytest.approx(float(pixels.mean()), abs=5e-5)
    assert source.statistics[1][0] == pytest.approx(float(pixels.std()), abs=5e-5)


@pytest.mark.parametrize("name", ["small_cnn28", "small_vit28", "small_mixer28"])
def test_networks_for_28_pixels_are_small(name):
    model = kdbench.create_model(name, num_classes=10)
    assert 10_000 <= sum(p.numel() for p in model.parameters()) <= 300_000
    assert model(torch.zeros(2, 3, 28, 28), need={"stages"}).logits.shape == (2, 10)


def test_first_stride_halves_every_map():
    whole, half = (kdbench.create_model("small_cnn28", num_classes=10, first_stride=stride) for stride in (1, 2))
    assert [tuple(stage.grid) for stage in whole.spec.stages] == [(28, 28), (14, 14), (7, 7)]
    assert [tuple(stage.grid) for stage in half.spec.stages] == [(14, 14), (7, 7), (4, 4)]
    with pytest.raises(ModelError, match="first_stride expects 1 or 2, got 3"):
        kdbench.create_model("small_cnn28", num_classes=10, first_stride=3)
