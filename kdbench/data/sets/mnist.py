"""MNIST and its two drop-in replacements: grey images of 28x28 pixels, ten classes, 60,000 + 10,000."""

from __future__ import annotations

from kdbench.data.sets.files import check_count
from kdbench.data.sets.formats.idx_files import TEST, TRAIN, IdxFiles, read_files
from kdbench.data.source import DataSource, Standard, register_dataset

_NAMES = (*TRAIN, *TEST)


def _md5(*values: str) -> dict[str, str]:
    return dict(zip(_NAMES, values))


MNIST = IdxFiles(
    "MNIST",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    packed=_md5(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    unpacked=_md5(
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    system=("/usr/share/datasets/mnist",),
)
FASHION = IdxFiles(
    "FashionMNIST",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    packed=_md5(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    unpacked=_md5(
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
    system=("/usr/share/datasets/fashion-mnist",),  # Debian's package dataset-fashion-mnist
)
KMNIST = IdxFiles(
    "KMNIST",
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    packed=_md5(
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
    unpacked={},
)


@register_dataset("mnist")
def mnist(root: str, download: bool = True, allow_partial: bool = False) -> DataSource:
    """MNIST (LeCun, Cortes, Burges, 1998): 60,000 + 10,000 handwritten digits, 28x28, grey, 10 classes.

    Args:
        root: holds the four IDX files, gzipped or not, or ``MNIST/raw/`` with them, as torchvision's does.
        download: get them where they are nowhere.
        allow_partial: accept other files, and other numbers of images.

    Raises:
        DataError: missing, damaged or incomplete.
    """
    return _source("mnist", MNIST, root, download, allow_partial, [str(n) for n in range(10)], 0.1307, 0.3081, flip=0.0)


@register_dataset("fashion_mnist")
def fashion_mnist(root: str, download: bool = True, allow_partial: bool = False) -> DataSource:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017): 60,000 + 10,000 photographs of clothes, 28x28, grey, 10 classes.

    Args:
        root: holds the four IDX files, gzipped or not, or ``FashionMNIST/raw/`` with them; those of Debian's package
            ``dataset-fashion-mnist`` are found without.
        download: get them where they are nowhere.
        allow_partial: accept other files, and other numbers of images.

    Raises:
        DataError: missing, damaged or incomplete.
    """
    classes = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
    return _source("fashion_mnist", FASHION, root, download, allow_partial, classes, 0.2860, 0.3530, flip=0.5)


@register_dataset("kmnist")
def kmnist(root: str, download: bool = True, allow_partial: bool = False) -> DataSource:
    """Kuzushiji-MNIST (Clanuwat et al., 2018): 60,000 + 10,000 characters of old Japanese books, 28x28, grey, 10 classes.

    Args:
        root: holds the four IDX files as they are published (``.gz``), or ``KMNIST/raw/`` with them.
        download: get them where they are nowhere.
        allow_partial: accept other files (unpacked ones too, which nothing is known to check by), and other numbers of images.

    Raises:
        DataError: missing, damaged or incomplete.
    """
    classes = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]
    return _source("kmnist", KMNIST, root, download, allow_partial, classes, 0.1918, 0.3483, flip=0.0)


def _source(
    name: str,
    files: IdxFiles,
    root: str,
    download: bool,
    partial: bool,
    classes: list[str],
    mean: float,
    std: float,
    *,
    flip: float,
) -> DataSource:
    """The data set; ``mean`` and ``std`` are those of its training images in [0, 1]."""
    train, test = read_files(files, root, download=download, check=not partial)
    if not partial:
        check_count("training images", root, len(train), 60_000, f"get {files.url} again")
        check_count("test images", root, len(test), 10_000, f"get {files.url} again")
    return DataSource(name, train, test, classes, ((mean,) * 3, (std,) * 3), Standard(crop="pad", pad=2, flip=flip))
