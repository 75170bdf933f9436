"""Small replicas of the data sets, in their official layout on disk."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image


def python2_pickle(content: dict) -> bytes:
    """As the official files name numpy's modules: protocol 2, from before numpy 2."""
    return pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar100_files(train: int = 40, test: int = 20, classes: int = 4) -> dict[str, bytes]:
    rng = np.random.default_rng(0)

    def part(count: int) -> dict:
        return {
            "filenames": [f"image_{i}.png" for i in range(count)],
            "batch_label": "training batch 1 of 1",
            "fine_labels": [i % classes for i in range(count)],
            "coarse_labels": [0] * count,
            "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        }

    meta = {"fine_label_names": [f"name{i}" for i in range(classes)], "coarse_label_names": ["all"]}
    return {k: python2_pickle(v) for k, v in (("train", part(train)), ("test", part(test)), ("meta", meta))}


def cifar10_files(per_batch: int = 10) -> dict[str, bytes]:
    rng = np.random.default_rng(1)

    def part(count: int) -> dict:
        return {
            "batch_label": "batch",
            "labels": [i % 10 for i in range(count)],
            "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
            "filenames": [f"{i}.png" for i in range(count)],
        }

    files = {f"data_batch_{i}": python2_pickle(part(per_batch)) for i in range(1, 6)}
    files["test_batch"] = python2_pickle(part(per_batch))
    names = {"label_names": [f"name{i}" for i in range(10)], "num_vis": 3072, "num_cases_per_batch": per_batch}
    files["batches.meta"] = python2_pickle(names)
    return files


def write_folder(root: Path, folder: str, files: dict[str, bytes]) -> None:
    (root / folder).mkdir(parents=True)
    for name, blob in files.items():
        (root / folder / name).write_bytes(blob)


def pack(folder: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, blob in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))
    return buffer.getvalue()


def md5(blob: bytes) -> str:
    return hashlib.md5(blob).hexdigest()


def patched(archive, files: dict[str, bytes], packed: bytes = b""):
    """The archive's constants with the replica's md5s."""
    return replace(archive, md5=md5(packed), files={name: md5(files[name]) for name in archive.files})


def picture(seed: int, width: int = 60, height: int = 48) -> Image.Image:
    """A smooth random image, as photographs are."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def write_jpeg(path: Path, seed: int, **size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, **size).save(path, "JPEG", quality=90)


def class_tree(root: Path, classes: list[str], parts: dict[str, int], suffix: str = ".jpg") -> Path:
    """``<part>/<class>/<image>``, images of several sizes."""
    seed = 0
    for part, count in parts.items():
        for name in classes:
            for i in range(count):
                seed += 1
                write_jpeg(
                    root / part / name / f"{name}_{i}{suffix}",
                    seed,
                    width=40 + 7 * (seed % 5),
                    height=50 - 3 * (seed % 4),
                )
    return root


def cub(root: Path, classes: int = 3, per_class: int = 4) -> Path:
    top = root / "CUB_200_2011"
    names = [f"{c + 1:03d}.Bird_{c}" for c in range(classes)]
    images, labels, parts = [], [], []
    for c, name in enumerate(names):
        for i in range(per_class):
            number = len(images) + 1
            write_jpeg(top / "images" / name / f"Bird_{i}.jpg", number)
            images.append(f"{number} {name}/Bird_{i}.jpg")
            labels.append(f"{number} {c + 1}")
            parts.append(f"{number} {int(i % 2 == 0)}")
    (top / "classes.txt").write_text("\n".join(f"{c + 1} {n}" for c, n in enumerate(names)) + "\n")
    (top / "images.txt").write_text("\n".join(images) + "\n")
    (top / "image_class_labels.txt").write_text("\n".join(labels) + "\n")
    (top / "train_test_split.txt").write_text("\n".join(parts) + "\n")
    return top


def aircraft(root: Path) -> Path:
    top = root / "fgvc-aircraft-2013b" / "data"
    variants = ["707-320", "Cessna 172", "DC-10"]
    top.mkdir(parents=True)
    (top / "variants.txt").write_text("\n".join(variants) + "\n")
    number = 0
    for part in ("trainval", "test"):
        lines = []
        for variant in variants * 2:
            number += 1
            write_jpeg(top / "images" / f"{number:07d}.jpg", number)
            lines.append(f"{number:07d} {variant}")
        (top / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
    return top
