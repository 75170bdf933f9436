"""CIFAR-10."""

from __future__ import annotations

from kdbench.data.sets.files import check_count
from kdbench.data.sets.formats.cifar_files import Archive, class_names, memory_split, read_archive
from kdbench.data.source import DataSource, Standard, register_dataset

ARCHIVE = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    folder="cifar-10-batches-py",
    md5="c58f30108f718f92721af3b95e74349a",
    files={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
)


@register_dataset("cifar10")
def cifar10(root: str, download: bool = True, allow_partial: bool = False) -> DataSource:
    """CIFAR-10 (Krizhevsky, 2009): 50,000 + 10,000 images of 32x32 pixels, 10 classes.

    Args:
        root: holds ``cifar-10-batches-py/`` or ``cifar-10-python.tar.gz``.
        download: get the archive where neither is there.
        allow_partial: accept other numbers of images.

    Raises:
        DataError: missing, damaged or incomplete.
    """
    found = read_archive(ARCHIVE, root, download=download)
    where = f"{root}/{ARCHIVE.folder}"
    parts = [found.pop(name) for name in ARCHIVE.files if name.startswith("data_batch_")]
    train = memory_split(parts, "labels", where)
    test = memory_split([found["test_batch"]], "labels", f"{where}/test_batch")
    classes = class_names(found["batches.meta"], "label_names", train.labels, f"{where}/batches.meta")
    if not allow_partial:
        remedy = f"download {ARCHIVE.url} again"
        check_count("classes", where, len(classes), 10, remedy)
        check_count("training images", where, len(train), 50_000, remedy)
        check_count("test images", where, len(test), 10_000, remedy)
    statistics = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    return DataSource("cifar10", train, test, classes, statistics, Standard(crop="pad", pad=4, flip=0.5))
