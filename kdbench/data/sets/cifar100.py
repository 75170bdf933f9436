"""CIFAR-100."""

from __future__ import annotations

from kdbench.data.sets.files import check_count
from kdbench.data.sets.formats.cifar_files import Archive, class_names, memory_split, read_archive
from kdbench.data.source import DataSource, Standard, register_dataset

ARCHIVE = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    folder="cifar-100-python",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    files={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
)


@register_dataset("cifar100")
def cifar100(root: str, download: bool = True, allow_partial: bool = False) -> DataSource:
    """CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 images of 32x32 pixels, 100 classes (the fine labels).

    Args:
        root: holds ``cifar-100-python/`` or ``cifar-100-python.tar.gz``.
        download: get the archive where neither is there.
        allow_partial: accept other numbers of images.

    Raises:
        DataError: missing, damaged or incomplete.
    """
    found = read_archive(ARCHIVE, root, download=download)
    where = f"{root}/{ARCHIVE.folder}"
    train, test = (memory_split([found[part]], "fine_labels", f"{where}/{part}") for part in ("train", "test"))
    classes = class_names(found["meta"], "fine_label_names", train.labels, f"{where}/meta")
    if not allow_partial:
        remedy = f"download {ARCHIVE.url} again"
        check_count("classes", where, len(classes), 100, remedy)
        check_count("training images", where, len(train), 50_000, remedy)
        check_count("test images", where, len(test), 10_000, remedy)
    statistics = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    return DataSource("cifar100", train, test, classes, statistics, Standard(crop="pad", pad=4, flip=0.5))
